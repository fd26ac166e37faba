/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent sets before it loads the programs; constants to the verifier. */
#ifndef KG_CONFIG_H
#define KG_CONFIG_H

#include <linux/types.h>

/* A worker that has been busy for longer gets no new connection while another can take
 * it. Far above any ordinary turn of a reactor, far below a client's patience. */
const volatile __u64 kg_hung_after_ns = 500000000;

#endif
