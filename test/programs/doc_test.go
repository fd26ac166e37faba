// Package programs checks that scripts/setup installs every program that tests and scripts run,
// so that `make test` and `make demo` work on a machine that has no more than Debian's base
// system and what the README asks for.
//
// Three sources say which programs run: the Go code (flow_test.go follows each argument of
// exec.Command and its like back to the constants it can be), the shell scripts (shell_test.go),
// and runs_test.go, which lists with a reason what neither can show.
package programs
