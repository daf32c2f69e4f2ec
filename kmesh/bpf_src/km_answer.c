/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What upstream connections send: answers go into the receive queue of the
 * client, as far as it is plain where they end and they are not long. The rest
 * stays with the upstream connection, and the relay is told to read it
 * (docs/decisions/0009-streams.md).
 */

/* The relay reads this and all that follows on the connection. */
static __always_inline int km_leave(struct km_upstream *upstream, __u64 cookie, __u32 event, __u32 detail)
{
	__u64 client = upstream->now.client;
	struct km_stream *stream = km_stream.lookup(&client);

	upstream->now.told = event;
	upstream->now.state = KM_N_RELAYED;
	if (stream)
		stream->is_relayed = 1;
	km_tell(event, detail, client, cookie, upstream->now.cluster, upstream->now.netns);
	return SK_PASS;
}

/* The answer is the relay's: from its first byte, or from this skb on. */
static __always_inline int km_leave_answer(struct km_upstream *upstream, __u64 cookie, __u32 detail)
{
	return km_leave(upstream, cookie, upstream->now.state == KM_N_HEAD ? KM_V_ANSWER : KM_V_ANSWER_REST, detail);
}

/* No request may be sent on it any more, whether it is bound, pooled, or taken at this moment. */
static __always_inline struct km_upstream *km_make_unfit(__u64 cookie, __u64 state)
{
	km_unfit.update(&cookie, &state);
	return km_upstream.lookup(&cookie);
}

/* Bytes that no request asked for. */
static __always_inline int km_breach(__u64 cookie)
{
	struct km_upstream *upstream = km_make_unfit(cookie, KM_N_RELAYED);

	if (!upstream) {
		km_tell(KM_V_BREACH, 0, 0, cookie, 0, 0);
		return SK_PASS;
	}
	upstream->now.told = KM_V_BREACH;
	upstream->now.state = KM_N_RELAYED;
	km_tell(KM_V_BREACH, 0, upstream->now.client, cookie, upstream->now.cluster, upstream->now.netns);
	return SK_PASS;
}

/* The end of the stream: passed, since the client's recv() would fail with EFAULT. */
static __always_inline int km_end_upstream(__u64 cookie)
{
	struct km_upstream *upstream = km_make_unfit(cookie, KM_N_DEAD);

	if (upstream && upstream->now.state == KM_N_IDLE)
		upstream->now.state = KM_N_DEAD;
	return SK_PASS;
}

/* Whether another request may be sent on it: neither end has closed, and the answer did not say that it would. */
static __always_inline bool km_is_open(struct __sk_buff *skb, struct km_upstream *upstream)
{
	struct bpf_sock *sk = skb->sk;

	return sk && sk->state == BPF_TCP_ESTABLISHED && !upstream->now.is_ending;
}

/*
 * Into the client's receive queue; with the last byte the exchange is over. The state is written last: from then on
 * the connection may be returned, and the element another's.
 */
static __always_inline int km_deliver(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie, bool is_last)
{
	__u64 client = upstream->now.client, cluster = upstream->now.cluster, netns = upstream->now.netns;
	struct km_stream *stream = km_stream.lookup(&client);

	if (!stream || km_clients.sk_redirect_hash(skb, &client, BPF_F_INGRESS) != SK_PASS)
		return km_leave(upstream, cookie, KM_V_CLIENT_GONE, 0);
	upstream->now.bytes += skb->len;
	upstream->now.carried += skb->len;
	if (!is_last)
		return SK_PASS;
	stream->exchanges++;
	stream->upstream = 0;
	if (stream->is_relayed)
		km_tell(KM_V_ENDED, 0, client, cookie, cluster, netns);
	*(volatile __u32 *)&upstream->now.state = km_is_open(skb, upstream) ? KM_N_IDLE : KM_N_DEAD;
	return SK_PASS;
}

static __always_inline int km_deliver_body(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie)
{
	__u64 remaining = upstream->now.remaining, length = skb->len;

	if (length > remaining)
		return km_leave_answer(upstream, cookie, KM_H_FRAMING);
	upstream->now.remaining = remaining - length;
	return km_deliver(skb, upstream, cookie, length == remaining);
}

/* Walk over the chunks of this skb, from `at` on. */
static __always_inline int km_begin_walk(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie, __u32 at)
{
	upstream->at = at;
	upstream->phase = upstream->now.phase;
	upstream->remaining = upstream->now.remaining;
	km_skb_steps.call(skb, KM_STEP_CHUNKS);
	return km_leave_answer(upstream, cookie, KM_H_STEPS);
}

/*
 * Pass over what was received before. Of the first skb that a client's answers begin with, what the kernel has handed
 * to its reader says where that ends: all of it, as nothing lies unread between two exchanges. KM_COPIED_SEQ_AT is
 * where struct tcp_sock has that number.
 */
static __always_inline bool km_trim_upstream(struct __sk_buff *skb, struct km_upstream *upstream)
{
	void *tcp;

	if (!upstream->is_expected) {
		if (!skb->sk)
			return false;
		tcp = bpf_skc_to_tcp_sock(skb->sk);
		if (!tcp)
			return false;
		upstream->expected = *(volatile __u32 *)(tcp + KM_COPIED_SEQ_AT);
		upstream->is_expected = 1;
	}
	return km_trim(skb, &upstream->expected);
}

/* What came is lost to its client: both connections are to end so that they know it. */
static __always_inline int km_tear(struct km_upstream *upstream, __u64 cookie)
{
	km_make_unfit(cookie, KM_N_DEAD);
	upstream->now.told = KM_V_TORN;
	upstream->now.state = KM_N_RELAYED;
	km_tell(KM_V_TORN, 0, upstream->now.client, cookie, upstream->now.cluster, upstream->now.netns);
	return SK_DROP;
}

int km_skb(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb), wanted;
	struct km_upstream *upstream;

	upstream = km_upstream.lookup(&cookie);
	if (upstream && skb->len && !km_trim_upstream(skb, upstream))
		return km_tear(upstream, cookie);
	if (!skb->len)
		return km_end_upstream(cookie);
	if (!upstream || upstream->now.state == KM_N_IDLE)
		return km_breach(cookie);
	if (upstream->now.state == KM_N_BODY)
		return km_deliver_body(skb, upstream, cookie);
	if (upstream->now.state == KM_N_CHUNKS) {
		if (upstream->now.carried + skb->len > KM_MAX_ANSWER_BODY_BYTES)
			return km_leave_answer(upstream, cookie, KM_H_FRAMING);
		return km_begin_walk(skb, upstream, cookie, 0);
	}
	if (upstream->now.state != KM_N_HEAD)
		return SK_PASS;
	if (upstream->now.is_closing)	/* the relay closes behind it, which must not overtake it */
		return km_leave_answer(upstream, cookie, KM_H_FRAMING);
	upstream->head.routes.head = upstream->now.answers;
	km_begin_head(&upstream->head);
	wanted = skb->len < KM_MAX_HEAD_BYTES + 1 ? skb->len : KM_MAX_HEAD_BYTES + 1;
	if (bpf_skb_pull_data(skb, wanted))
		return km_leave_answer(upstream, cookie, KM_H_BROKEN);
	km_skb_steps.call(skb, KM_STEP_ANSWER);
	return km_leave_answer(upstream, cookie, KM_H_BROKEN);
}

/* How long the body is that follows this head; false when the relay must see to it. */
static __always_inline bool km_measure_answer(struct km_upstream *upstream, void *data, void *data_end, __u64 *length,
					      bool *is_interim)
{
	struct km_request *head = &upstream->head;
	bool is_chunked = km_is_chunked(head, data, data_end);
	__u64 status = 0;

	*is_interim = false;
	upstream->now.phase = KM_B_LENGTH;
	if (!km_read_number(head, km_find_only(head, KM_FIELD_STATUS), data, data_end, &status))
		return false;
	upstream->now.is_ending = km_asks_to_close(head, data, data_end);
	if (!upstream->now.is_ending && !km_stays_open(head, data, data_end))
		return false;
	if (!is_chunked && km_find_only(head, KM_FIELD_TRANSFER_ENCODING) != KM_MAX_REQUEST_FIELDS)
		return false;
	if (status < 200) {
		*is_interim = true;
		*length = 0;
		return status >= 100 && status != 101 && !is_chunked && !upstream->now.is_ending;
	}
	if (!km_read_length(head, data, data_end, length))
		return false;
	if (upstream->now.is_head || status == 204 || status == 304) {
		*length = 0;
		return !is_chunked || status != 204;
	}
	if (is_chunked) {
		upstream->now.phase = KM_B_SIZE;
		return true;
	}
	return km_find_only(head, KM_FIELD_CONTENT_LENGTH) < KM_MAX_REQUEST_FIELDS &&
	       *length <= KM_MAX_ANSWER_BODY_BYTES;
}

/* An answer that says Connection: close says nothing of the client's connection. Moves the data. */
static __always_inline bool km_blank_answer(struct __sk_buff *skb, struct km_upstream *upstream)
{
	__u64 place = km_find_only(&upstream->head, KM_FIELD_CONNECTION), blanks = 0x2020202020202020ULL;

	return place < KM_MAX_REQUEST_FIELDS &&
	       !bpf_skb_store_bytes(skb, upstream->head.fields[place].start, &blanks, 5, 0);
}

int km_skb_answer(struct __sk_buff *skb)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data;
	__u64 cookie = bpf_get_socket_cookie(skb), length = 0, at_hand;
	struct km_upstream *upstream = km_upstream.lookup(&cookie);
	bool is_interim = false;

	if (!upstream)
		return SK_PASS;
	if (km_read_head(&upstream->head, data, data_end) == KM_MORE) {
		km_skb_steps.call(skb, KM_STEP_ANSWER);
		return km_leave_answer(upstream, cookie, KM_H_STEPS);
	}
	if (KM_LOAD(upstream->head.handover))
		return km_leave_answer(upstream, cookie, upstream->head.handover);
	if (!km_measure_answer(upstream, data, data_end, &length, &is_interim))
		return km_leave_answer(upstream, cookie, KM_H_FRAMING);
	at_hand = skb->len - upstream->head.head_length;
	if (is_interim)
		return at_hand ? km_leave_answer(upstream, cookie, KM_H_FRAMING) :
				 km_deliver(skb, upstream, cookie, false);
	if (upstream->now.phase == KM_B_SIZE) {
		upstream->now.remaining = 0;
		return km_begin_walk(skb, upstream, cookie, upstream->head.head_length);
	}
	if (at_hand > length || (upstream->now.is_ending && !km_blank_answer(skb, upstream)))
		return km_leave_answer(upstream, cookie, KM_H_FRAMING);
	upstream->now.remaining = length - at_hand;
	upstream->now.state = KM_N_BODY;
	return km_deliver(skb, upstream, cookie, at_hand == length);
}

/* The skb ends within the body, or with it: it may be delivered. */
static __always_inline int km_deliver_chunks(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie)
{
	if (upstream->now.state == KM_N_HEAD && upstream->now.is_ending && !km_blank_answer(skb, upstream))
		return km_leave_answer(upstream, cookie, KM_H_FRAMING);
	upstream->now.phase = upstream->phase;
	upstream->now.remaining = upstream->remaining;
	upstream->now.state = KM_N_CHUNKS;
	return km_deliver(skb, upstream, cookie, KM_LOAD(upstream->phase) == KM_B_END);
}

int km_skb_chunks(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct km_upstream *upstream = km_upstream.lookup(&cookie);

	if (!upstream)
		return SK_PASS;
	switch (km_walk_chunks(skb, upstream)) {
	case KM_WALK_ON:
		km_skb_steps.call(skb, KM_STEP_CHUNKS);
		return km_leave_answer(upstream, cookie, KM_H_STEPS);
	case KM_WALK_DONE:
		return km_deliver_chunks(skb, upstream, cookie);
	}
	return km_leave_answer(upstream, cookie, KM_H_FRAMING);
}

/* What comes to a client from the relay: in one queue with the answers, and counted. */
int km_skb_client(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct km_stream *stream = km_stream.lookup(&cookie);

	if (!stream)
		return SK_PASS;
	if (skb->len && !km_trim(skb, &stream->expected)) {
		stream->is_torn = 1;
		km_tell(KM_V_TORN, 0, cookie, 0, 0, 0);
		return SK_DROP;
	}
	stream->received += skb->len;
	return SK_PASS;
}
