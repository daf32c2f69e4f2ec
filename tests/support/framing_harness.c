/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Behind all programs: km_frame_load makes a packet of the case that tests/support/framing_harness.py has in its
 * memory, km_frame_run reads its head, calling itself until that is done, and then decides where the message ends.
 */
#define KM_FRAME_AT 16	/* a packet begins with an Ethernet header */
#define KM_FRAME_BYTES (2 * KM_MAX_HEAD_BYTES)

struct km_frame_case {
	/* Given. */
	__u64 automaton;
	__u32 length;		/* of the bytes below that are read */
	__u32 size;		/* of the message */
	__u32 is_answer;
	__u32 is_head;

	/* The answer. */
	__u64 body;
	__u32 head_length;
	__u32 handover;
	__u32 is_plain;
	__u32 is_interim;
	__u32 is_chunked;
	__u32 closes;

	__u8 bytes[KM_FRAME_BYTES];	/* behind one, as nothing cannot be stored */
	struct km_upstream upstream;
};

BPF_F_TABLE("array", int, struct km_frame_case, km_frame_case, 1, BPF_F_MMAPABLE);
BPF_PROG_ARRAY(km_frame_step, 1);

int km_frame_load(struct __sk_buff *skb)
{
	int zero = 0;
	struct km_frame_case *given = km_frame_case.lookup(&zero);
	__u32 length;

	if (!given)
		return -1;
	length = given->length % KM_FRAME_BYTES;
	if (bpf_skb_change_tail(skb, KM_FRAME_AT + length, 0) ||
	    bpf_skb_store_bytes(skb, KM_FRAME_AT - 1, given->bytes, length + 1, 0))
		return -1;
	given->upstream.now.is_head = given->is_head;
	given->upstream.head.routes.head = given->automaton;
	km_begin_head(&given->upstream.head);
	km_frame_step.call(skb, 0);
	return -1;
}

/* As km_msg_send does before it looks for a connection. */
static __always_inline void km_frame_request(struct km_frame_case *given, void *data, void *data_end)
{
	struct km_request *request = &given->upstream.head;
	struct km_exchange exchange = {};

	if (!km_frame_exchange(request, data, data_end, &exchange))
		given->handover = KM_H_FRAMING;
	else if (given->size > exchange.remaining)
		given->handover = KM_H_PIPELINED;
	else
		given->is_plain = 1;
	given->body = exchange.remaining - request->head_length;
	given->is_head = exchange.is_head;
	given->closes = exchange.is_closing;
}

int km_frame_run(struct __sk_buff *skb)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data + KM_FRAME_AT;
	int zero = 0;
	struct km_frame_case *given = km_frame_case.lookup(&zero);
	struct km_request *head;
	bool is_interim = false;
	__u64 body = 0;

	if (!given)
		return -1;
	head = &given->upstream.head;
	if (km_read_head(head, data, data_end) == KM_MORE) {
		km_frame_step.call(skb, 0);
		km_out_of_steps(head);
	}
	given->handover = head->handover;
	given->head_length = head->head_length;
	given->is_plain = 0;
	given->is_interim = 0;
	given->is_chunked = 0;
	given->closes = 0;
	given->body = 0;
	if (KM_LOAD(head->handover))
		return 0;
	if (!given->is_answer) {
		km_frame_request(given, data, data_end);
		return 0;
	}
	given->is_plain = km_measure_answer(&given->upstream, data, data_end, &body, &is_interim);
	given->is_interim = is_interim;
	given->is_chunked = given->upstream.now.phase == KM_B_SIZE;
	given->closes = given->upstream.now.is_ending;
	given->body = body;
	return 0;
}
