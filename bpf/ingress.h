/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What happens to a packet that comes in on an uplink, whichever hook sees it first. */
#ifndef KG_INGRESS_H
#define KG_INGRESS_H

#include "between.h"
#include "cookie.h"
#include "sieve.h"
#include "strict.h"

/* may_be_l4 reports whether an address may have an L4 listener on a port (network byte
 * order); false is certain. */
static __always_inline bool may_be_l4(const struct kg_address_info *address, __be16 port)
{
	return address->l4_ports >> ((__u16)(bpf_ntohs(port) * 40503) >> 10) & 1;
}

/* judge decides about a packet and changes it if it is one of an L4 flow. Without l4 it
 * changes none. */
static __always_inline enum end judge(const struct hook *h, enum located located,
				      const struct headers *headers, bool l4)
{
	struct packet p = {};
	struct kg_address_info *address;
	enum end otherwise = PASSED;
	bool excepted = false, read;
	enum end end = PASSED;

	/* 1. Find the IP header. */
	if (located == LOCATED_NOT_IP)
		return NOT_IP;
	if (located != LOCATED || !read_addresses(&p, h->data, h->end, headers))
		return MALFORMED;

	/* 2. To one of our addresses? Nothing else on this interface is our business. */
	address = find_address(&p.key.destination);
	if (!address)
		return h->in->kind ? NODE_TARGET : NOT_OURS;

	/* 3. Judge the source before any further header: options, extension headers and
	 *    fragments must not be a way round the list. */
	if (kg_strict && is_spoofed(h, &p, address))
		return SPOOFED_SOURCE;
	if (!(headers->flags & HEADERS_SIEVED) && denied(&p, &excepted)) {
		if (!excepted)
			return DENIED;
		otherwise = ALLOWED;
	}

	/* 4. Then the headers. What is not all in what we see is the kernel's to judge. */
	read = read_transport(&p, h->data, h->end, headers);
	if (kg_strict) {
		end = inspect(&p, h->end, headers, read);
		if (drops(end))
			return end;
		end = PASSED;
	}
	if (!read)
		return excepted ? ALLOWED : MALFORMED;
	if (!l4) {
		/* Has the agent attach kg_ingress. */
		if (kg_syn_cookies && p.syn && !p.ack)
			are_too_many();
		return otherwise;
	}

	/* 5. L4 flows. PASSED means that it is of none. */
	if (p.later && (kg_fabric_on || address->flags & KG_ADDRESS_L4))
		end = follow_fragment(h, &p);
	else if (p.check && may_be_l4(address, p.key.destination_port))
		end = to_backend(h, &p);
	else if (!p.check && address->flags & KG_ADDRESS_L4)
		end = icmp_to_backend(h, &p);

	/* 6. Connections of the proxies, here or on another node. */
	if (kg_fabric_on && end == PASSED && !p.later)
		end = to_proxy(h, &p, headers);

	/* 7. Too many new ones. */
	if (kg_syn_cookies && end == PASSED && p.check)
		end = challenge(h, &p, headers);
	return end == PASSED ? otherwise : end;
}

#endif
