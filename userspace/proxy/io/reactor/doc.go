// Package reactor is the event loop that a proxy worker runs on: one thread, one epoll
// instance, one listening socket per family, its own timers and coroutines. Nothing in
// it is shared with another loop.
//
// Connection code is written straight-line and runs in coroutines (iter.Pull). Where a
// socket would block, the coroutine parks and the loop goes on with whatever is ready.
// Coroutines are only ever resumed by their loop, on the loop's locked thread: the
// runtime requires the locking state of a coroutine's creation at each resume
// (golang/go#67499).
//
// All methods must be called on the loop's own thread, save Loop.Submit and Loop.Stop.
package reactor
