/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, as the maps hold them. */
#ifndef KG_NET_H
#define KG_NET_H

#include "types.h"

#define AF_INET 2 /* UAPI has no header for it */

/* address_of_v4 writes v4 (network byte order) as ::ffff:a.b.c.d. */
static __always_inline void address_of_v4(struct kg_address *address, __be32 v4)
{
	__builtin_memset(address, 0, sizeof(*address));
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(&address->bytes[12], &v4, sizeof(v4));
}

#endif
