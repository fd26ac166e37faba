package skmsg

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// The kernel's verifier accepts the programs, or the kernel is one that we refuse.
func TestVerifier(t *testing.T) {
	netnstest.RequireCapabilities(t)
	if err := knownBad(); err != nil {
		t.Logf("not joined here: %v", err)
		return
	}
	p, err := Open(Options{UID: 65532})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	for name, program := range map[string]*ebpf.Program{"kg_sockops": p.objects.programs.SockOps, "kg_msg": p.objects.programs.Msg} {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := info.VerifiedInstructions(); ok {
			t.Logf("verifier: %s %d instructions", name, n)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// The kernel passes the self-test, or is one that we refuse.
func TestSelfTest(t *testing.T) {
	netnstest.Enter(t)
	bad := knownBad()
	err := Test(t.Context(), "")
	if bad == nil && err != nil {
		t.Error(err)
	}
	if err == nil {
		t.Log("sk_msg: passes the self-test")
	} else {
		t.Logf("sk_msg: stays off: %v", err)
	}
	if bad != nil && (err == nil || !strings.Contains(err.Error(), "CVE-2025-68227")) {
		t.Errorf("%v, but the self-test says %v", bad, err)
	}
}

func TestKnownBad(t *testing.T) {
	for r, good := range map[release]bool{
		{5, 10, 255}: false, {5, 15, 196}: false, {5, 15, 197}: true, {6, 1, 158}: false, {6, 1, 159}: true,
		{6, 5, 13}: false, {6, 12, 59}: false, {6, 12, 60}: true, {6, 16, 12}: false, {6, 17, 10}: true,
		{6, 18, 0}: true, {7, 0, 0}: true, {7, 3, 4}: true,
	} {
		if err := judge(r); (err == nil) != good {
			t.Errorf("%v: %v", r, err)
		}
	}
}
