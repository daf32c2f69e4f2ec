/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether all that programs gave a client lies in the queue that it reads. What is redirected waits in another
 * (psock->ingress_skb) until a worker of the kernel's moves it, and a FIN that comes first is read first: bytes that
 * wait would be lost to a client that reads until the end. The relay asks before it closes, by BPF_PROG_TEST_RUN with
 * a packet that holds the client's cookie.
 *
 * An skb leaves the first queue when it is in the second (Linux 6.4), or before, under the worker's mutex and noted in
 * its state (Linux 5.15). So first the queue is looked at, then the mutex, then the state.
 */
#define KM_PSOCK_MASK (~7ULL)	/* the pointer's low bits are flags */
#define KM_PACKET_COOKIE_AT 14	/* behind what the kernel takes for a link's header */

static __always_inline bool km_reads_zero(__u64 address, __u32 size)
{
	__u64 word = 0;

	return !bpf_probe_read_kernel(&word, size, (void *)address) && !word;
}

int km_delivered(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct bpf_sock *sk;
	__u64 cookie, psock;
	void *tcp;

	if (data + KM_PACKET_COOKIE_AT + sizeof(cookie) > data_end)
		return KM_Y_GONE;
	cookie = *(__u64 *)(data + KM_PACKET_COOKIE_AT);
	sk = (struct bpf_sock *)km_clients.lookup(&cookie);
	if (!sk)
		return KM_Y_GONE;
	tcp = bpf_skc_to_tcp_sock(sk);
	psock = tcp ? *(volatile __u64 *)(tcp + KM_USER_DATA_AT) & KM_PSOCK_MASK : 0;
	bpf_sk_release(sk);
	if (!psock)
		return KM_Y_GONE;
	if (!km_reads_zero(psock + KM_INGRESS_LENGTH_AT, 4) || !km_reads_zero(psock + KM_WORK_MUTEX_AT, 8))
		return KM_Y_WAITING;
#ifdef KM_WORK_SKB_AT
	if (!km_reads_zero(psock + KM_WORK_SKB_AT, 8))
		return KM_Y_WAITING;
#endif
	return KM_Y_DONE;
}
