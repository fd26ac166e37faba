package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpoolFlags: a folder that is of no use is an error at the start, with the remedy; one that
// is of use stays empty.
func TestSpoolFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		args   []string
		status int
	}{
		"--request-spool-dir: open /nowhere/spool: no such file or directory; it must exist, and UID ": {[]string{"--request-spool-dir", "/nowhere/spool"}, 1},
		"--request-spool-dir: open " + file + ": not a directory":                                      {[]string{"--request-spool-dir", file}, 1},
		"--request-spool-dir: make a file in /proc: ":                                                  {[]string{"--request-spool-dir", "/proc"}, 1},
		"--request-spool-total 1000: want at least 1048576":                                            {[]string{"--request-spool-total", "1000"}, 2},
	} {
		var out, errs bytes.Buffer
		if status := run(context.Background(), c.args, &out, &errs); status != c.status || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: status %d, %q, want %d, %q", c.args, status, errs.String(), c.status, want)
		}
	}
	dir := t.TempDir()
	d, err := openSpool(flags{spoolDir: dir, spoolTotal: 5 << 20})
	if err != nil || d.Total() != 5<<20 || d.Held() != 0 {
		t.Fatalf("%+v %v", d, err)
	}
	defer d.Close()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v %v", entries, err)
	}
	if d, err := openSpool(flags{spoolTotal: 5 << 20}); d != nil || err != nil {
		t.Errorf("without a folder: %v %v", d, err)
	}
}
