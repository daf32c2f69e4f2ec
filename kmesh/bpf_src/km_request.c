/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a client sends: a request that is routed goes to an upstream connection,
 * all else down the client's own connection to the relay, whose business it is
 * until the relay grants (docs/decisions/0009-streams.md).
 */

/* The stream of a socket, or none: then nothing is known of it and what it sends passes. */
static __always_inline struct km_stream *km_find_stream(struct km_sock *sock)
{
	__u64 cookie;

	if (!sock || !(sock->flags & KM_S_STREAM))
		return 0;
	cookie = sock->cookie;
	return km_stream.lookup(&cookie);
}

/* To the relay, and so is all that comes until it grants. */
static __always_inline int km_pass(struct sk_msg_md *msg, struct km_stream *stream, __u32 reason)
{
	stream->sent += msg->size;
	stream->is_relayed = 1;
	if (reason) {
		stream->handover = reason;
		stream->handovers++;
	}
	return SK_PASS;
}

/* Whether the next byte begins a request that the kernel may take. */
static __always_inline bool km_is_granted(struct km_stream *stream, __u64 cookie)
{
	struct km_grant *grant;

	if (!stream->upstream && !stream->is_relayed)
		return true;
	grant = km_grant.lookup(&cookie);
	if (!grant)
		return false;
	if (stream->upstream && stream->upstream == grant->ended)
		stream->upstream = 0;
	if (stream->upstream || grant->sent != stream->sent || grant->received != stream->received)
		return false;
	stream->is_relayed = 0;
	return true;
}

/*
 * Begin an exchange on an upstream connection whose element is there. What makes a connection unfit is noted there
 * before it is written here, and the other way round: whichever comes second sees the first.
 */
static __always_inline bool km_begin_exchange(struct sk_msg_md *msg, __u64 cookie, struct km_exchange *exchange)
{
	struct km_upstream *upstream = km_upstream.lookup(&cookie);

	if (!upstream)
		return false;
	exchange->bytes = upstream->now.bytes;
	upstream->now = *exchange;
	__sync_fetch_and_add(&upstream->now.bytes, 0);	/* a barrier */
	if (!km_unfit.lookup(&cookie) && km_upstreams.msg_redirect_hash(msg, &cookie, 0) == SK_PASS)
		return true;
	upstream->now.state = KM_N_DEAD;
	return false;
}

/* Begin it on a connection of the pool, which is bound to the client from now on; its cookie, or 0. */
static __always_inline __u64 km_take_pooled(struct sk_msg_md *msg, struct km_bound_key *bound,
					    struct km_exchange *exchange)
{
	struct km_pool_key key = { .netns = exchange->netns, .cluster = exchange->cluster };
	void *pool = km_pool.lookup(&key);
	int zero = 0, i;
	struct km_upstream *fresh = km_fresh.lookup(&zero);
	__u64 cookie;

	if (!pool || !fresh)
		return 0;
#pragma unroll
	for (i = 0; i < KM_MAX_POOL_TRIES; i++) {
		cookie = 0;
		if (bpf_map_pop_elem(pool, &cookie))
			return 0;
		if (km_upstream.insert(&cookie, fresh))
			continue;
		if (km_begin_exchange(msg, cookie, exchange)) {
			km_bound.update(bound, &cookie);
			km_tell(KM_V_TAKEN, 0, bound->client, cookie, bound->cluster, exchange->netns);
			return cookie;
		}
		km_upstream.delete(&cookie);	/* it ended while it was pooled */
	}
	return 0;
}

/* Begin it on the connection that is bound to the client for this cluster, or another; its cookie, or 0. */
static __always_inline __u64 km_find_upstream(struct sk_msg_md *msg, struct km_exchange *exchange)
{
	struct km_bound_key bound = { .client = exchange->client, .cluster = exchange->cluster };
	__u64 *known = km_bound.lookup(&bound), cookie;
	struct km_upstream *upstream;

	if (known) {
		cookie = *known;
		upstream = km_upstream.lookup(&cookie);
		if (upstream && upstream->now.state == KM_N_IDLE && km_begin_exchange(msg, cookie, exchange))
			return cookie;
		if (upstream && upstream->now.state != KM_N_DEAD && upstream->now.state != KM_N_RELAYED)
			return 0;
	}
	return km_take_pooled(msg, &bound, exchange);
}

/* The data at hand: `msg` has it in one piece, up to what a head may have; else 0. */
static __always_inline bool km_is_in_one_piece(struct sk_msg_md *msg)
{
	__u64 wanted = msg->size < KM_MAX_HEAD_BYTES + 1 ? msg->size : KM_MAX_HEAD_BYTES + 1;
	void *data = (void *)(long)msg->data, *data_end = (void *)(long)msg->data_end;

	return data + wanted <= data_end || !bpf_msg_pull_data(msg, 0, wanted, 0);
}

/*
 * Whether the client leaves its answers unread. What is redirected into a receive queue is not held back by a window,
 * and no limit of the socket counts it: a client that only sends would fill the node's memory. KM_RMEM_ALLOC_AT is
 * where struct sock counts what lies in the queue.
 */
static __always_inline bool km_leaves_unread(struct bpf_sock *sk)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);

	return !tcp || *(volatile __s32 *)(tcp + KM_RMEM_ALLOC_AT) > KM_MAX_UNREAD_BYTES;
}

int km_msg(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;
	struct km_stream *stream;
	struct km_sock *sock;

	if (!sk)
		return SK_PASS;
	sock = km_sock.sk_storage_get(sk, 0, 0);
	stream = km_find_stream(sock);
	if (!stream)
		return SK_PASS;
	if (!km_is_granted(stream, sock->cookie))
		return km_pass(msg, stream, 0);
	if (km_leaves_unread(sk))
		return km_pass(msg, stream, KM_H_UNREAD);
	request = km_request.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!request)
		return km_pass(msg, stream, KM_H_BROKEN);
	request->routing = sock->routing;
	request->port = bpf_ntohs(sock->port_be);
	if (km_begin_request(request) == KM_DONE || !km_is_in_one_piece(msg))
		return km_pass(msg, stream, KM_H_BROKEN);
	km_msg_steps.call(msg, KM_STEP_HEAD);
	return km_pass(msg, stream, KM_H_BROKEN);
}

/* The step that was called is the last: what it did not settle is the relay's. */
static __always_inline int km_end_steps(struct sk_msg_md *msg, struct bpf_sock *sk, struct km_request *request)
{
	struct km_stream *stream;

	if (!KM_LOAD(request->handover))
		km_out_of_steps(request);
	stream = km_find_stream(km_sock.sk_storage_get(sk, 0, 0));
	return stream ? km_pass(msg, stream, request->handover) : SK_PASS;
}

int km_msg_head(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	if (!request)
		return SK_PASS;
	if (km_read_head(request, data, data_end) == KM_MORE)
		km_msg_steps.call(msg, KM_STEP_HEAD);
	else if (!KM_LOAD(request->handover))
		km_msg_steps.call(msg, KM_STEP_MATCH);
	return km_end_steps(msg, sk, request);
}

int km_msg_match(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	if (!request)
		return SK_PASS;
	if (km_match(request, data, data_end) == KM_MORE)
		km_msg_steps.call(msg, KM_STEP_MATCH);
	else if (!KM_LOAD(request->handover))
		km_msg_steps.call(msg, KM_STEP_SEND);
	return km_end_steps(msg, sk, request);
}

/* What the exchange of a matched request begins as; false when the relay must follow it. */
static __always_inline bool km_frame_exchange(struct km_request *request, void *data, void *data_end,
					      struct km_exchange *exchange)
{
	__u64 length = 0;

	exchange->is_closing = km_asks_to_close(request, data, data_end);
	if (!exchange->is_closing && !km_stays_open(request, data, data_end))
		return false;
	if (!km_read_length(request, data, data_end, &length) || length > KM_MAX_REQUEST_BODY_BYTES)
		return false;
	exchange->is_head = km_is_head(request, data, data_end);
	exchange->remaining = request->head_length + length;	/* of the request, as long as this is at hand */
	exchange->cluster = request->cluster;
	exchange->answers = request->routes.answers;
	exchange->state = KM_N_HEAD;
	return true;
}

/* Send the request that was matched; else it is the relay's. */
int km_msg_send(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct km_exchange exchange = {};
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;
	struct km_stream *stream;
	struct km_sock *sock;
	__u64 length, cookie;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	sock = km_sock.sk_storage_get(sk, 0, 0);
	stream = km_find_stream(sock);
	if (!stream || !request)
		return SK_PASS;
	if (!km_frame_exchange(request, data, data_end, &exchange))
		return km_pass(msg, stream, KM_H_FRAMING);
	/*
	 * A message that is redirected in part keeps its target: SK_PASS for the rest would send that there too
	 * (seen on Linux 6.18: sk_psock_msg_verdict() looks at msg->sk_redir whoever set it).
	 */
	length = exchange.remaining;
	if (msg->size > length)
		return km_pass(msg, stream, KM_H_PIPELINED);
	exchange.remaining = 0;
	exchange.is_partial = msg->size < length;
	exchange.client = sock->cookie;
	exchange.netns = sock->netns;
	cookie = km_find_upstream(msg, &exchange);
	if (!cookie) {
		km_tell(KM_V_NEEDED, 0, exchange.client, 0, exchange.cluster, exchange.netns);
		return km_pass(msg, stream, KM_H_NO_CONNECTION);
	}
	if (exchange.is_closing)
		km_blank_close(request, data, data_end);
	stream->upstream = cookie;
	stream->bound = cookie;
	stream->cluster = exchange.cluster;
	stream->requests++;
	bpf_msg_apply_bytes(msg, length);
	return SK_PASS;
}
