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

/* An upstream connection that is free, bound to the client from now on; 0 for none. */
static __always_inline __u64 km_take_pooled(struct km_bound_key *bound, __u64 netns)
{
	struct km_pool_key key = { .netns = netns, .cluster = bound->cluster };
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
		if (km_upstream.lookup(&cookie))
			continue;	/* it ended while it was pooled */
		km_upstream.update(&cookie, fresh);
		km_bound.update(bound, &cookie);
		km_tell(KM_V_TAKEN, 0, bound->client, cookie, bound->cluster, netns);
		return cookie;
	}
	return 0;
}

static __always_inline __u64 km_find_upstream(struct km_bound_key *bound, __u64 netns)
{
	__u64 *known = km_bound.lookup(bound), cookie;
	struct km_upstream *upstream;

	if (known) {
		cookie = *known;
		upstream = km_upstream.lookup(&cookie);
		if (upstream && upstream->state == KM_N_IDLE)
			return cookie;
		if (upstream && upstream->state != KM_N_DEAD)
			return 0;
	}
	return km_take_pooled(bound, netns);
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

int km_msg_head(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;
	struct km_stream *stream;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	if (!request)
		return SK_PASS;
	if (km_read_head(request, data, data_end) == KM_MORE)
		km_msg_steps.call(msg, KM_STEP_HEAD);
	else if (!KM_LOAD(request->handover))
		km_msg_steps.call(msg, KM_STEP_MATCH);
	stream = km_find_stream(km_sock.sk_storage_get(sk, 0, 0));
	return stream ? km_pass(msg, stream, request->handover ? request->handover : KM_H_HEAD_SIZE) : SK_PASS;
}

int km_msg_match(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct bpf_sock *sk = msg->sk;
	struct km_request *request;
	struct km_stream *stream;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	if (!request)
		return SK_PASS;
	if (km_match(request, data, data_end) == KM_MORE)
		km_msg_steps.call(msg, KM_STEP_MATCH);
	else if (!KM_LOAD(request->handover))
		km_msg_steps.call(msg, KM_STEP_SEND);
	stream = km_find_stream(km_sock.sk_storage_get(sk, 0, 0));
	return stream ? km_pass(msg, stream, request->handover ? request->handover : KM_H_BOUND) : SK_PASS;
}

/* Send the request that was matched; else it is the relay's. */
int km_msg_send(struct sk_msg_md *msg)
{
	void *data_end = (void *)(long)msg->data_end;
	void *data = (void *)(long)msg->data;
	struct bpf_sock *sk = msg->sk;
	struct km_bound_key bound = {};
	struct km_upstream *upstream;
	struct km_request *request;
	struct km_stream *stream;
	struct km_sock *sock;
	__u64 length = 0, cookie;
	__u32 is_head;

	if (!sk)
		return SK_PASS;
	request = km_request.sk_storage_get(sk, 0, 0);
	sock = km_sock.sk_storage_get(sk, 0, 0);
	stream = km_find_stream(sock);
	if (!stream || !request)
		return SK_PASS;
	if (!km_stays_open(request, data, data_end) || !km_read_length(request, data, data_end, &length) ||
	    length > KM_MAX_REQUEST_BODY_BYTES)
		return km_pass(msg, stream, KM_H_FRAMING);
	/*
	 * A message that is redirected in part keeps its target: SK_PASS for the rest would send that there too
	 * (seen on Linux 6.18: sk_psock_msg_verdict() looks at msg->sk_redir whoever set it).
	 */
	if (msg->size > request->head_length + length)
		return km_pass(msg, stream, KM_H_PIPELINED);
	is_head = km_is_head(request, data, data_end);
	bound.client = sock->cookie;
	bound.cluster = request->cluster;
	cookie = km_find_upstream(&bound, sock->netns);
	upstream = cookie ? km_upstream.lookup(&cookie) : 0;
	if (!upstream) {
		km_tell(KM_V_NEEDED, 0, bound.client, 0, bound.cluster, sock->netns);
		return km_pass(msg, stream, KM_H_NO_CONNECTION);
	}
	if (km_upstreams.msg_redirect_hash(msg, &cookie, 0) != SK_PASS) {
		upstream->state = KM_N_DEAD;
		return km_pass(msg, stream, KM_H_NO_CONNECTION);
	}
	upstream->client = bound.client;
	upstream->cluster = bound.cluster;
	upstream->netns = sock->netns;
	upstream->answers = request->routes.answers;
	upstream->is_head = is_head;
	upstream->remaining = 0;
	upstream->state = KM_N_HEAD;
	stream->upstream = cookie;
	stream->requests++;
	bpf_msg_apply_bytes(msg, request->head_length + length);
	return SK_PASS;
}
