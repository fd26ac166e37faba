package abi

// JoinPriority is the SO_PRIORITY by which the proxy asks for a connection to a pod of this
// node to be joined: KG_JOIN_PRIORITY in bpf/skmsg.bpf.c, which is an object of its own.
const JoinPriority = 5
