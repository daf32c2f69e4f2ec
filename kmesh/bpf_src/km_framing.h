/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where requests and answers end (docs/decisions/0009-streams.md), from the
 * fields of a head that was read. What is not plain is the relay's.
 */
#define KM_NUMBER_DIGITS 15	/* more is no length of anything */

/* The place of the only field with this id; KM_MAX_REQUEST_FIELDS without one, and for several one more. */
static __always_inline __u64 km_find_only(struct km_request *request, __u64 id)
{
	__u64 found = km_find_fields(request, id);

	if (!found)
		return KM_MAX_REQUEST_FIELDS;
	return found & (found - 1) ? KM_MAX_REQUEST_FIELDS + 1 : km_lowest_bit(found);
}

/* The value of a field that is a decimal number; false for anything else. */
static __always_inline bool km_read_number(struct km_request *request, __u64 place, void *data, void *data_end,
					   __u64 *number)
{
	__u64 length, sum = 0;
	__u8 *at;
	int i;

	if (place >= KM_MAX_REQUEST_FIELDS)
		return false;
	length = request->fields[place].length;
	at = data + (request->fields[place].start & (KM_MAX_HEAD_BYTES - 1));
	if (length - 1 >= KM_NUMBER_DIGITS)
		return false;
#pragma unroll
	for (i = 0; i < KM_NUMBER_DIGITS; i++) {
		__u64 digit;

		KM_HIDE(at);
		if (i >= length)
			break;
		if ((void *)at + 1 > data_end)
			return false;
		digit = (__u64)*at - '0';
		if (digit > 9)
			return false;
		sum = sum * 10 + digit;
		at++;
	}
	*number = sum;
	return true;
}

/* Whether a field's value is `text`, of lower case letters and no more than 16 bytes. */
static __always_inline bool km_is_word(struct km_request *request, __u64 place, void *data, void *data_end,
				       const char *text, __u64 length)
{
	__u8 *at;
	int i;

	if (place >= KM_MAX_REQUEST_FIELDS || request->fields[place].length != length)
		return false;
	at = data + (request->fields[place].start & (KM_MAX_HEAD_BYTES - 1));
#pragma unroll
	for (i = 0; i < 16; i++) {
		if (i >= length)
			break;
		KM_HIDE(at);
		if ((void *)at + 1 > data_end || km_lower(*at) != text[i])
			return false;
		at++;
	}
	return true;
}

/* Whether the connection stays as it is behind this message: no Connection, or keep-alive. */
static __always_inline bool km_stays_open(struct km_request *request, void *data, void *data_end)
{
	__u64 place = km_find_only(request, KM_FIELD_CONNECTION);

	return place == KM_MAX_REQUEST_FIELDS || km_is_word(request, place, data, data_end, "keep-alive", 10);
}

/* Whether the connection is to end behind this message, and that is all that Connection says. */
static __always_inline bool km_asks_to_close(struct km_request *request, void *data, void *data_end)
{
	return km_is_word(request, km_find_only(request, KM_FIELD_CONNECTION), data, data_end, "close", 5);
}

/* Blanks for that word: the other end keeps its connection, as it keeps that with Envoy, which takes the line out. */
static __always_inline void km_blank_close(struct km_request *request, void *data, void *data_end)
{
	__u64 place = km_find_only(request, KM_FIELD_CONNECTION);
	__u8 *at;
	int i;

	if (place >= KM_MAX_REQUEST_FIELDS)
		return;
	at = data + (request->fields[place].start & (KM_MAX_HEAD_BYTES - 1));
	if ((void *)at + 5 > data_end)
		return;
#pragma unroll
	for (i = 0; i < 5; i++)
		at[i] = ' ';
}

/* Whether the body is chunked, and nothing else says where it ends. */
static __always_inline bool km_is_chunked(struct km_request *request, void *data, void *data_end)
{
	return km_find_only(request, KM_FIELD_CONTENT_LENGTH) == KM_MAX_REQUEST_FIELDS &&
	       km_is_word(request, km_find_only(request, KM_FIELD_TRANSFER_ENCODING), data, data_end, "chunked", 7);
}

/* The length of a body by Content-Length, 0 without one; false when that is not plain. */
static __always_inline bool km_read_length(struct km_request *request, void *data, void *data_end, __u64 *length)
{
	__u64 place = km_find_only(request, KM_FIELD_CONTENT_LENGTH);

	*length = 0;
	return place == KM_MAX_REQUEST_FIELDS || km_read_number(request, place, data, data_end, length);
}

/* Whether the request has method HEAD. */
static __always_inline bool km_is_head(struct km_request *request, void *data, void *data_end)
{
	__u8 *at = data;

	return request->fields[0].length == 4 && data + 2 <= data_end && at[0] == 'H' && at[1] == 'E';
}
