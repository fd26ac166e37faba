package skmsg

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type kg_join_constant -type kg_join_reason -type kg_join_key -type kg_join_pair -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" skmsg ../../bpf/skmsg.bpf.c
