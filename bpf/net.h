/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, as the maps hold them. */
#ifndef KG_NET_H
#define KG_NET_H

#include "types.h"

#define AF_INET 2 /* UAPI has no header for them */
#define AF_INET6 10

/* address_of_v4 writes v4 (network byte order) as ::ffff:a.b.c.d. In whole words: a hash
 * that reads a word just after it was written in pieces would wait for the pieces. */
static __always_inline void address_of_v4(struct kg_address *address, __be32 v4)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = v4;
}

#endif
