// Command oidc is an OpenID provider where everybody who comes is signed in as the same user:
// mockoidc on an address that the caller chooses, which is also the issuer's.
//
//	oidc ADDRESS CLIENT-ID CLIENT-SECRET
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/oauth2-proxy/mockoidc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oidc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: oidc ADDRESS CLIENT-ID CLIENT-SECRET")
	}
	provider, err := mockoidc.NewServer(nil)
	if err != nil {
		return err
	}
	provider.ClientID, provider.ClientSecret = args[1], args[2]
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	if err := provider.Start(l, nil); err != nil {
		return err
	}
	fmt.Println("issuer", provider.Issuer())
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return provider.Shutdown()
}
