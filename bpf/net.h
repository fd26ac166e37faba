/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, as the maps hold them. */
#ifndef KG_NET_H
#define KG_NET_H

#include <linux/in6.h>

#include "kernel.h"
#include "types.h"

#define AF_INET 2 /* UAPI has no header for them */
#define AF_INET6 10

/*
 * address_of_v4 writes v4 (network byte order) as ::ffff:a.b.c.d.
 *
 * Keys are written in words as large as their place allows: who reads a word just after it
 * was written in pieces, as copies and comparisons in the kernel do, waits for the pieces.
 */
static __always_inline void address_of_v4(struct kg_address *address, __be32 v4)
{
	__u64 words[2] = {0, bpf_htonl(0xffff) | (__u64)v4 << 32}; /* little-endian, as all is */

	__builtin_memcpy(address, words, sizeof(words));
}

/* address_of_v6 writes an address that lies in a packet. */
static __always_inline void address_of_v6(struct kg_address *address, const struct in6_addr *v6)
{
	__u64 words[2] = {((const __u64 *)v6)[0], ((const __u64 *)v6)[1]};

	__builtin_memcpy(address, words, sizeof(words));
}

#endif
