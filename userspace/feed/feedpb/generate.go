// Package feedpb holds the messages of the agent's socket, generated from feed.proto.
// Package feed says how they travel.
package feedpb

//go:generate sh -c "protoc -I ../../.. --plugin=protoc-gen-go=$(go tool -n protoc-gen-go) --go_out=../../.. --go_opt=paths=source_relative ../../../userspace/feed/feedpb/feed.proto"
