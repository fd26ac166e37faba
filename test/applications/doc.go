// Package applications runs real servers as pods of a lab, with their real clients, and has
// each conversation three times: with the pod itself, through Kerngate, and through an nginx
// that is configured as ingress-nginx configures it. What the client and the application see
// must be the same each time, or differ as the conversation says it does.
//
// docs/applications.md is the table of all of them; `make test-applications` writes it.
//
// The tests have the build tag applications, because they need packages that nothing else does:
// scripts/setup applications installs those of Debian, and scripts/applications-build builds the
// rest from programs/go.mod. Stage applications of scripts/test leaves out those that take long to
// build or to run, which docs/testing.md names with what they cost.
package applications
