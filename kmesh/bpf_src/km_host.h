/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From AUTHORITY to its virtual host: check it, cut its port off, look it up,
 * then by its wildcard (docs/decisions/0008-request-matching.md).
 *
 * Loops over its bytes hide the length at each turn: the compiler would end them
 * by it alone, as it is below their bound, and Linux 6.1 would see no end.
 */
enum { KM_STAGE_HOST, KM_STAGE_WILDCARD, KM_STAGE_ROUTE, KM_STAGE_TAKEN };

/* Whether Host may have it: letters, digits, and !$&'()*+,;=:@%[]._~- */
static __always_inline bool km_is_host_byte(__u64 byte)
{
	__u64 bits = byte < 64 ? 0x2fff7ff200000000ULL : 0x47fffffeafffffffULL;

	return byte < 128 && (bits >> (byte & 63) & 1);
}

static __always_inline __u64 km_lower(__u64 byte)
{
	return byte + (((byte - '[') & ~(byte - 'A')) >> 63 << 5);
}

/* Where AUTHORITY is. Each loop makes its own: what it learns of a pointer would set apart the ways out of it. */
static __always_inline __u8 *km_host(struct km_request *request, void *data)
{
	return data + (KM_LOAD(request->host_start) & (KM_MAX_HEAD_BYTES - 1));
}

/* Check the bytes of AUTHORITY, and find its colons. */
static __always_inline void km_scan_host(struct km_request *request, void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length), before = 0;
	__u8 *host = km_host(request, data);
	int i;

	request->colon = length;
	request->colon_before = length;
	request->not_digit = length;
	request->has_dot = 0;
	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		__u64 byte;

		KM_HIDE(length);
		KM_HIDE(host);
		if (i >= length)
			break;
		if ((void *)host + 1 > data_end) {
			request->handover = KM_H_BROKEN;
			return;
		}
		byte = *host;
		host++;
		if (!km_is_host_byte(byte)) {
			request->handover = KM_H_HOST;
			return;
		}
		if (byte - '0' > 9)
			request->not_digit = i;
		if (byte == ':') {
			if (before == '.')
				request->has_dot = 1;
			request->colon_before = KM_LOAD(request->colon);
			request->colon = i;
		} else if (byte == ']') {
			request->colon = length;
			request->colon_before = length;
		}
		before = byte;
	}
	if (before == '.')
		request->has_dot = 1;
}

/* Find the entry for `key` in an index: how many keys are not above it. */
static __always_inline __u64 km_search(struct km_request *request, struct km_index *index, __u64 key)
{
	__u64 count = index->count;
	int step;

	request->low = 0;
#pragma unroll
	for (step = 128; step; step /= 2) {
		__u64 last = KM_LOAD(request->low) + step - 1;

		KM_HIDE(last);
		if (last < count && last < KM_MAX_INDEX_FANOUT && index->entries[last].key <= key)
			request->low = last + 1;
	}
	return KM_LOAD(request->low);
}

/* The domain with this hash, or none; what is unsound is handed over. */
static __always_inline struct km_domain *km_look_up(struct km_request *request, __u64 hash)
{
	int zero = 0, level;
	void *indices = km_index.lookup(&zero), *domains = km_domain.lookup(&zero);
	__u64 key = request->routes.domains;
	struct km_domain *domain;

	if (!indices || !domains)
		goto broken;
	for (level = 0; level < KM_MAX_INDEX_DEPTH; level++) {
		struct km_index *index;
		__u64 place;

		if (!key)
			return 0;
		index = bpf_map_lookup_elem(indices, &key);
		if (!index || index->count > KM_MAX_INDEX_FANOUT)
			goto broken;
		place = km_search(request, index, hash) - 1;
		KM_HIDE(place);
		key = 0;
		if (place < KM_MAX_INDEX_FANOUT && (index->level || index->entries[place].key == hash))
			key = index->entries[place].target;
		if (index->level)
			continue;
		if (!key)
			return 0;
		domain = bpf_map_lookup_elem(domains, &key);
		if (domain)
			return domain;
		goto broken;
	}
broken:
	request->handover = KM_H_BROKEN;
	return 0;
}

/* Cut the port off AUTHORITY where the options say so. */
static __always_inline void km_strip_port(struct km_request *request, struct km_request_field *authority,
					  void *data, void *data_end)
{
	__u64 colon = KM_LOAD(request->colon), digits = authority->length - colon - 1, number = 0;
	__u8 *host;
	int i;

	if (!(request->routes.flags & (KM_RF_STRIP_PORT | KM_RF_STRIP_MATCHING_PORT)) ||
	    KM_LOAD(request->not_digit) != colon || digits - 1 >= KM_MAX_HOST_BYTES)
		return;
	if (digits > 5) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	if (!(request->routes.flags & KM_RF_STRIP_PORT)) {
		if (colon >= KM_MAX_HOST_BYTES)
			return;
		host = km_host(request, data) + colon + 1;
#pragma unroll
		for (i = 0; i < 5; i++) {
			KM_HIDE(host);
			if (i >= digits || (void *)host + 1 > data_end)
				break;
			number = number * 10 + *host - '0';
			host++;
		}
		if (number != request->port)
			return;
	}
	authority->length = colon;
	request->colon = KM_LOAD(request->colon_before);
}

/* The hash of the first `host_length` bytes, in lower case. */
static __always_inline __u64 km_hash_host(struct km_request *request, void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length), hash = KM_HASH_SEED;
	__u8 *host = km_host(request, data);
	int i;

	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		KM_HIDE(length);
		KM_HIDE(host);
		if (i >= length || (void *)host + 1 > data_end)
			break;
		hash = (hash ^ km_lower(*host)) * KM_HASH_MULTIPLIER;
		host++;
	}
	return hash;
}

/* Whether they are the domain's text. */
static __always_inline bool km_is_domain(struct km_request *request, struct km_domain *domain,
					 void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length);
	__u8 *host = km_host(request, data);
	int i;

	if (domain->length != length)
		return false;
	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		KM_HIDE(length);
		KM_HIDE(host);
		if (i >= length || (void *)host + 1 > data_end)
			break;
		if (km_lower(*host) != domain->text[i])
			return false;
		host++;
	}
	return true;
}

/* Look for the virtual host by AUTHORITY as it is; the wildcards come next. */
static __always_inline void km_find_host(struct km_request *request, void *data, void *data_end)
{
	__u64 found = km_find_fields(request, KM_FIELD_AUTHORITY), place, length, end;
	struct km_request_field *authority;
	struct km_domain *domain;

	if (request->marks & request->routes.relayed_marks) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	place = km_lowest_bit(found);
	if (!found || (found & (found - 1)) || place >= KM_MAX_REQUEST_FIELDS) {
		request->handover = KM_H_HOST;
		return;
	}
	authority = &request->fields[place];
	length = authority->length;
	if (length - 1 >= KM_MAX_HOST_BYTES) {
		request->handover = KM_H_HOST;
		return;
	}
	request->host_start = authority->start;
	request->host_length = length;
	km_scan_host(request, data, data_end);
	if (KM_LOAD(request->handover))
		return;
	if (request->routes.flags & KM_RF_STRIP_DOT && KM_LOAD(request->has_dot)) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	km_strip_port(request, authority, data, data_end);
	if (KM_LOAD(request->handover))
		return;
	end = KM_LOAD(authority->length);
	if (request->routes.flags & KM_RF_IGNORE_PORT && KM_LOAD(request->colon) < end)
		end = KM_LOAD(request->colon);
	request->host_length = end;
	domain = km_look_up(request, km_hash_host(request, data, data_end));
	if (domain && km_is_domain(request, domain, data, data_end)) {
		request->link = domain->link;
		request->stage = KM_STAGE_ROUTE;
		return;
	}
	if (!request->routes.wildcards) {
		if (!KM_LOAD(request->handover))
			request->handover = KM_H_NO_VIRTUAL_HOST;
		return;
	}
	km_begin_run(request, authority->start, end);
	request->stage = KM_STAGE_WILDCARD;
}

/* Look for the virtual host by the wildcard that the automaton found. */
static __always_inline void km_find_wildcard(struct km_request *request)
{
	__u64 hash = request->output;
	struct km_domain *domain = hash ? km_look_up(request, hash) : 0;

	if (domain) {
		request->link = domain->link;
		request->stage = KM_STAGE_ROUTE;
	} else if (!KM_LOAD(request->handover)) {
		request->handover = KM_H_NO_VIRTUAL_HOST;
	}
}
