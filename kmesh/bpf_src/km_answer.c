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
	__u64 client = upstream->client;
	struct km_stream *stream = km_stream.lookup(&client);

	upstream->state = KM_N_RELAYED;
	if (stream)
		stream->is_relayed = 1;
	km_tell(event, detail, client, cookie, upstream->cluster, upstream->netns);
	return SK_PASS;
}

/* Into the client's receive queue; with the last byte the exchange is over. */
static __always_inline int km_deliver(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie, bool is_last)
{
	__u64 client = upstream->client;
	struct km_stream *stream = km_stream.lookup(&client);

	if (!stream || km_clients.sk_redirect_hash(skb, &client, BPF_F_INGRESS) != SK_PASS)
		return km_leave(upstream, cookie, KM_V_CLIENT_GONE, 0);
	upstream->bytes += skb->len;
	if (is_last) {
		upstream->state = KM_N_IDLE;
		stream->exchanges++;
		stream->upstream = 0;
		if (stream->is_relayed)
			km_tell(KM_V_ENDED, 0, client, cookie, upstream->cluster, upstream->netns);
	}
	return SK_PASS;
}

static __always_inline int km_deliver_body(struct __sk_buff *skb, struct km_upstream *upstream, __u64 cookie)
{
	__u64 remaining = upstream->remaining, length = skb->len;

	if (length > remaining)
		return km_leave(upstream, cookie, KM_V_BREACH, 0);
	upstream->remaining = remaining - length;
	return km_deliver(skb, upstream, cookie, length == remaining);
}

int km_skb(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb), wanted;
	struct km_upstream *upstream = km_upstream.lookup(&cookie);
	int zero = 0;

	if (!upstream) {
		/*
		 * A pooled connection that ended must not be taken, nor one that spoke first: what it said stays in
		 * its queue, where the relay would find it before the answer.
		 */
		upstream = km_fresh.lookup(&zero);
		if (upstream)
			km_upstream.insert(&cookie, upstream);
		if (skb->len)
			km_tell(KM_V_BREACH, 0, 0, cookie, 0, 0);
		return SK_PASS;
	}
	if (!skb->len) {
		if (upstream->state == KM_N_IDLE)
			upstream->state = KM_N_DEAD;
		return SK_PASS;
	}
	if (upstream->state == KM_N_BODY)
		return km_deliver_body(skb, upstream, cookie);
	if (upstream->state == KM_N_IDLE)
		return km_leave(upstream, cookie, KM_V_BREACH, 0);
	if (upstream->state != KM_N_HEAD)
		return SK_PASS;
	upstream->head.routes.head = upstream->answers;
	km_begin_head(&upstream->head);
	wanted = skb->len < KM_MAX_HEAD_BYTES + 1 ? skb->len : KM_MAX_HEAD_BYTES + 1;
	if (bpf_skb_pull_data(skb, wanted))
		return km_leave(upstream, cookie, KM_V_ANSWER, KM_H_BROKEN);
	km_skb_steps.call(skb, KM_STEP_ANSWER);
	return km_leave(upstream, cookie, KM_V_ANSWER, KM_H_BROKEN);
}

/* How long the body is that follows this head; false when the relay must see to it. */
static __always_inline bool km_measure_answer(struct km_upstream *upstream, void *data, void *data_end, __u64 *length,
					      bool *is_interim)
{
	struct km_request *head = &upstream->head;
	__u64 status = 0;

	*is_interim = false;
	if (!km_read_number(head, km_find_only(head, KM_FIELD_STATUS), data, data_end, &status))
		return false;
	if (!km_stays_open(head, data, data_end) ||
	    km_find_only(head, KM_FIELD_TRANSFER_ENCODING) != KM_MAX_REQUEST_FIELDS)
		return false;
	if (status < 200) {
		*is_interim = true;
		*length = 0;
		return status >= 100 && status != 101;
	}
	if (!km_read_length(head, data, data_end, length))
		return false;
	if (upstream->is_head || status == 204 || status == 304) {
		*length = 0;
		return true;
	}
	return km_find_only(head, KM_FIELD_CONTENT_LENGTH) < KM_MAX_REQUEST_FIELDS &&
	       *length <= KM_MAX_ANSWER_BODY_BYTES;
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
		return km_leave(upstream, cookie, KM_V_ANSWER, KM_H_HEAD_SIZE);
	}
	if (KM_LOAD(upstream->head.handover))
		return km_leave(upstream, cookie, KM_V_ANSWER, upstream->head.handover);
	if (!km_measure_answer(upstream, data, data_end, &length, &is_interim))
		return km_leave(upstream, cookie, KM_V_ANSWER, KM_H_FRAMING);
	at_hand = skb->len - upstream->head.head_length;
	if (is_interim)
		return at_hand ? km_leave(upstream, cookie, KM_V_ANSWER, KM_H_FRAMING) :
				 km_deliver(skb, upstream, cookie, false);
	if (at_hand > length)
		return km_leave(upstream, cookie, KM_V_BREACH, 0);
	upstream->remaining = length - at_hand;
	upstream->state = KM_N_BODY;
	return km_deliver(skb, upstream, cookie, at_hand == length);
}

/* What comes to a client from the relay: in one queue with the answers, and counted. */
int km_skb_client(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct km_stream *stream = km_stream.lookup(&cookie);

	if (stream)
		stream->received += skb->len;
	return SK_PASS;
}
