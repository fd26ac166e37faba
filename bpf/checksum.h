/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Checksums of headers that are changed, from the change alone (RFC 1624). A difference is
 * a sum of 32-bit words in ones' complement, not folded; the order of bytes cancels out.
 */
#ifndef KG_CHECKSUM_H
#define KG_CHECKSUM_H

#include "kernel.h"
#include "types.h"

/* difference returns what replacing a word does to a sum. */
static __always_inline __u64 difference(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

/* fold returns a sum in 16 bits. */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

/* fix corrects a checksum field. */
static __always_inline void fix(__sum16 *check, __u64 diff)
{
	*check = ~fold((__u16) ~*check + diff);
}

/* difference_of_addresses returns what replacing an address does to the sum that covers
 * it; v4-mapped ones differ in their last word alone. */
static __always_inline __u64 difference_of_addresses(const struct kg_address *from,
						     const struct kg_address *to, bool v6)
{
	__u32 a[4], b[4];
	__u64 diff;

	__builtin_memcpy(a, from, sizeof(a));
	__builtin_memcpy(b, to, sizeof(b));
	diff = difference(a[3], b[3]);
	if (v6)
		diff += difference(a[0], b[0]) + difference(a[1], b[1]) + difference(a[2], b[2]);
	return diff;
}

#endif
