package datapath

// The compiled objects are committed, so that a build needs Go alone. Regenerating them
// needs clang-19, llvm-strip-19 and the headers of libbpf-dev and linux-libc-dev; the
// UAPI headers are the same for both architectures as far as bpf/ uses them.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" kerngate ../../bpf/kerngate.bpf.c
//go:generate go run ../abi/gen kerngate_x86_bpfel.o kerngate_arm64_bpfel.o ../abi/types.go
