/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every program needs of the kernel's and libbpf's headers, in the one order that works. */
#ifndef KG_KERNEL_H
#define KG_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#endif
