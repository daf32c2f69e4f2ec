/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walking over the chunks of an answer's body, skb by skb (RFC 9112 section 7.1). What is odd, extensions and
 * trailers too, is the relay's: from the beginning of the skb, where `now` of the connection still stands.
 */
#define KM_WALK_TURNS 16	/* of one burst: chunks, as a rule */
#define KM_WALK_BYTES 16	/* of one turn, a power of two: a chunk's end and the next one's size */
#define KM_MAX_CHUNK_BITS 40	/* of a size; more is odd */

enum { KM_WALK_ODD, KM_WALK_ON, KM_WALK_DONE };

/* The value of a hexadecimal digit, or more than 15. */
static __always_inline __u64 km_digit(__u64 byte)
{
	__u64 letter = (byte | 0x20) - 'a';

	return byte - '0' < 10 ? byte - '0' : letter < 6 ? letter + 10 : 16;
}

/* Behind a byte of a size. */
static __always_inline __u32 km_step_size(struct km_upstream *upstream, __u64 byte, bool has_digit)
{
	__u64 digit = km_digit(byte), size = KM_LOAD(upstream->remaining);

	if (has_digit && byte == '\r')
		return KM_B_SIZE_END;
	if (digit > 15 || size >> (KM_MAX_CHUNK_BITS - 4))
		return KM_B_LENGTH;
	upstream->remaining = size << 4 | digit;
	return KM_B_DIGITS;
}

/* The phase behind a byte that is none of a chunk's data; KM_B_LENGTH when it is odd. */
static __always_inline __u32 km_step_chunk(struct km_upstream *upstream, __u32 phase, __u64 byte)
{
	switch (phase) {
	case KM_B_SIZE:
		return km_step_size(upstream, byte, false);
	case KM_B_DIGITS:
		return km_step_size(upstream, byte, true);
	case KM_B_SIZE_END:
		return byte != '\n' ? KM_B_LENGTH : KM_LOAD(upstream->remaining) ? KM_B_DATA : KM_B_TRAILER;
	case KM_B_DATA_CR:
		return byte == '\r' ? KM_B_DATA_LF : KM_B_LENGTH;
	case KM_B_DATA_LF:
		return byte == '\n' ? KM_B_SIZE : KM_B_LENGTH;
	case KM_B_TRAILER:
		return byte == '\r' ? KM_B_LAST_LF : KM_B_LENGTH;
	case KM_B_LAST_LF:
		return byte == '\n' ? KM_B_END : KM_B_LENGTH;
	}
	return KM_B_LENGTH;
}

/* Go on behind the data of the chunk, as far as it is at hand. */
static __always_inline void km_skip_data(struct km_upstream *upstream, __u64 length)
{
	__u64 left = length - KM_LOAD(upstream->at), remaining = KM_LOAD(upstream->remaining);

	if (left > remaining)
		left = remaining;
	upstream->at += left;
	upstream->remaining = remaining - left;
	if (left == remaining)
		upstream->phase = KM_B_DATA_CR;
}

/* One burst: KM_WALK_ON when there is more to walk over. */
static __always_inline int km_walk_chunks(struct __sk_buff *skb, struct km_upstream *upstream)
{
	__u64 length = skb->len;
	int turn, i;

	for (turn = 0; turn < KM_WALK_TURNS; turn++) {
		__u8 window[KM_WALK_BYTES] = {};
		__u64 at, more;

		if (KM_LOAD(upstream->phase) == KM_B_DATA)
			km_skip_data(upstream, length);
		at = KM_LOAD(upstream->at);
		if (at >= length)
			return KM_WALK_DONE;
		more = length - at - 1;
		if (more > KM_WALK_BYTES - 1)
			more = KM_WALK_BYTES - 1;
		KM_HIDE(more);
		more &= KM_WALK_BYTES - 1;	/* for the verifier */
		if (bpf_skb_load_bytes(skb, at, window, more + 1))
			return KM_WALK_ODD;
#pragma unroll
		for (i = 0; i < KM_WALK_BYTES; i++) {
			if (i > more || KM_LOAD(upstream->phase) == KM_B_DATA)
				break;
			upstream->phase = km_step_chunk(upstream, KM_LOAD(upstream->phase), window[i]);
			if (KM_LOAD(upstream->phase) == KM_B_LENGTH)
				return KM_WALK_ODD;
			upstream->at++;
		}
	}
	return KM_WALK_ON;
}
