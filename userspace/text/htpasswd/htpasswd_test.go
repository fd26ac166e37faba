package htpasswd

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestVerify(t *testing.T) {
	hashed, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := "# staff\n\n" +
		"apr:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\r\n" +
		"md5:$1$xyz$pRE9hyCdZxgn5Yd07XvAB/:a comment\n" +
		"sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" +
		"bcrypt:" + string(hashed) + "\n" +
		"twoy:$2y$" + string(hashed[4:]) + "\n" +
		"apr:$apr1$other$h9FWgUz3n9YxylKLlR5SQ/\n" +
		"des:rqXexS6ZhobKA\nplain:{PLAIN}x\nnohash\n:x\ncostly:$2y$31$" + string(hashed[7:]) + "\n"
	u, problems, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if u.Len() != 5 || len(problems) != 6 {
		t.Errorf("%d users, problems %q", u.Len(), problems)
	}
	if text := strings.Join(problems, "\n"); strings.Contains(text, "rqXexS6ZhobKA") || strings.Contains(text, "h9FW") {
		t.Errorf("a problem shows a hash: %s", text)
	}
	passwords := map[string]string{"apr": "secret", "md5": "a longer password than sixteen bytes", "sha": "secret", "bcrypt": "secret", "twoy": "secret"}
	for name, password := range passwords {
		if !u.Verify([]byte(name), []byte(password)) {
			t.Errorf("%s: the right password is refused", name)
		}
		for _, wrong := range []string{"", password + "x", "Secret", strings.Repeat("x", 2000)} {
			if u.Verify([]byte(name), []byte(wrong)) {
				t.Errorf("%s: %.20q is accepted", name, wrong)
			}
		}
	}
	for _, name := range []string{"nobody", "des", "plain", "", "costly"} {
		if u.Verify([]byte(name), []byte("secret")) {
			t.Errorf("%s gets in", name)
		}
	}
}

func TestNoUsableEntry(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "a:plain\n", ":\n", strings.Repeat("a", MaxSize+1)} {
		if u, _, err := Parse([]byte(file)); err == nil {
			t.Errorf("%.20q: %v", file, u)
		}
	}
}

// TestAgainstOpenSSL compares with another implementation, for passwords of all lengths.
func TestAgainstOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	for _, kind := range []string{"-apr1", "-1", "-5", "-6"} {
		for _, n := range []int{1, 2, 15, 16, 17, 31, 33, 64, 100} {
			password := strings.Repeat("pä", n)[:n]
			out, err := exec.Command("openssl", "passwd", kind, "-salt", fmt.Sprintf("salt%d", n), password).Output()
			if err != nil {
				t.Fatal(err)
			}
			u, problems, err := Parse([]byte("u:" + string(out)))
			if err != nil || len(problems) > 0 {
				t.Fatal(err, problems)
			}
			if !u.Verify([]byte("u"), []byte(password)) {
				t.Errorf("%s, %d bytes: not verified", kind, n)
			}
		}
	}
}

// FuzzParse: whatever a file holds, reading and verifying end, and nobody gets in by an
// empty hash.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a:$apr1$s$h9FWgUz3n9YxylKLlR5SQ/", "a:{SHA}x", "a:{SSHA}", "a:$1$$", "a::", "a:$2a$10$", "a:$6$rounds=1000$s$x", "a:$5$$"} {
		f.Add(s, "a", "p")
	}
	f.Fuzz(func(t *testing.T, file, name, password string) {
		if strings.Contains(file, "$2") {
			return // slow on purpose
		}
		u, _, err := Parse([]byte(file))
		if err != nil {
			return
		}
		if u.Verify([]byte(name), []byte(password)) && u.Hash([]byte(name)) == "" {
			t.Errorf("%q: %q gets in with %q", file, name, password)
		}
	})
}
