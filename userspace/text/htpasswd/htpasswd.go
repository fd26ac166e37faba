// Package htpasswd reads files of names and password hashes as Apache's htpasswd and nginx
// know them, and verifies passwords against them. In: lines NAME:HASH. Out: a set of users.
//
// Hashes of the kinds bcrypt ($2a$, $2b$, $2y$), apr1 ($apr1$), MD5-crypt ($1$) and SHA-1
// ({SHA}, {SSHA}) are known. The DES hashes of crypt(3) and plain text are refused: nobody
// should rely on them, and an entry that cannot be verified lets nobody in.
package htpasswd

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// MaxSize is the size in bytes of the largest file.
	MaxSize = 1 << 20
	// maxCost bounds the work of one bcrypt verification, to about a second.
	maxCost = 14
	// maxPassword is the longest password that is looked at, in bytes.
	maxPassword = 1024
)

// Users are the entries of one file.
type Users struct {
	hashes map[string]string
	decoy  string // a hash of the costliest kind that is in use
}

// Parse reads a file. An entry that cannot be used is left out and said by problems, which
// name the line and never the hash; an error says that there is no usable entry at all.
func Parse(file []byte) (u *Users, problems []string, err error) {
	if len(file) > MaxSize {
		return nil, nil, fmt.Errorf("%d bytes are more than %d", len(file), MaxSize)
	}
	u = &Users{hashes: map[string]string{}}
	number := 0
	for line := range bytes.Lines(file) {
		number++
		text := strings.TrimRight(string(line), "\r\n")
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, hash, ok := strings.Cut(text, ":")
		hash, _, _ = strings.Cut(hash, ":") // nginx ignores a third column
		switch {
		case !ok || name == "":
			problems = append(problems, fmt.Sprintf("line %d is not of the form NAME:HASH", number))
			continue
		case u.hashes[name] != "":
			problems = append(problems, fmt.Sprintf("line %d names a user again: the first entry counts", number))
			continue
		}
		if err := check(hash); err != nil {
			problems = append(problems, fmt.Sprintf("line %d: %v", number, err))
			continue
		}
		u.hashes[name] = hash
		if u.decoy == "" || strings.HasPrefix(hash, "$2") {
			u.decoy = hash
		}
	}
	if len(u.hashes) == 0 {
		return nil, problems, fmt.Errorf("no line has a NAME:HASH that can be used")
	}
	return u, problems, nil
}

// check says what is wrong with a hash, without a byte of it.
func check(hash string) error {
	switch {
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil || len(hash) != 60:
			return fmt.Errorf("the bcrypt hash is malformed")
		case cost > maxCost:
			return fmt.Errorf("bcrypt cost %d is more than %d, which takes a second: make the hash anew with htpasswd -B", cost, maxCost)
		}
		return nil
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		if _, _, digest, ok := splitMD5(hash); !ok || len(digest) != 22 {
			return fmt.Errorf("the MD5 hash is malformed")
		}
		return nil
	case strings.HasPrefix(hash, "{SHA}"):
		if sum, err := base64.StdEncoding.DecodeString(hash[len("{SHA}"):]); err != nil || len(sum) != sha1.Size {
			return fmt.Errorf("the SHA hash is malformed")
		}
		return nil
	case strings.HasPrefix(hash, "{SSHA}"):
		if sum, err := base64.StdEncoding.DecodeString(hash[len("{SSHA}"):]); err != nil || len(sum) <= sha1.Size {
			return fmt.Errorf("the SSHA hash is malformed")
		}
		return nil
	}
	return fmt.Errorf("the hash is of no known kind: make it with htpasswd -B (bcrypt)")
}

// Len returns the number of users.
func (u *Users) Len() int { return len(u.hashes) }

// Hash returns a user's hash, "" for one that does not exist. It identifies what a
// verification was made against.
func (u *Users) Hash(name []byte) string { return u.hashes[string(name)] }

// Verify reports whether the password is the user's. It takes milliseconds with bcrypt, and
// about as long for a name that does not exist, so that names cannot be told by time.
func (u *Users) Verify(name, password []byte) bool {
	if len(password) > maxPassword {
		return false
	}
	hash, known := u.hashes[string(name)]
	if !known {
		hash = u.decoy
	}
	return verify(hash, password) && known
}

func verify(hash string, password []byte) bool {
	switch {
	case strings.HasPrefix(hash, "$2"):
		// As the original: what is behind the 72nd byte does not count.
		return bcrypt.CompareHashAndPassword([]byte(hash), password[:min(len(password), 72)]) == nil
	case strings.HasPrefix(hash, "{SHA}"):
		want, _ := base64.StdEncoding.DecodeString(hash[len("{SHA}"):])
		got := sha1.Sum(password)
		return subtle.ConstantTimeCompare(got[:], want) == 1
	case strings.HasPrefix(hash, "{SSHA}"):
		want, _ := base64.StdEncoding.DecodeString(hash[len("{SSHA}"):])
		if len(want) <= sha1.Size {
			return false
		}
		got := sha1.Sum(append(bytes.Clone(password), want[sha1.Size:]...))
		return subtle.ConstantTimeCompare(got[:], want[:sha1.Size]) == 1
	}
	magic, salt, want, ok := splitMD5(hash)
	return ok && subtle.ConstantTimeCompare([]byte(md5Crypt(magic, salt, password)), []byte(want)) == 1
}
