// Package htpasswd reads files of names and password hashes as Apache's htpasswd and nginx
// know them, and verifies passwords against them. In: lines NAME:HASH. Out: a set of users.
//
// Hashes of the kinds bcrypt ($2a$, $2b$, $2y$), SHA-256 and SHA-512 of crypt(3) ($5$, $6$), apr1
// ($apr1$), MD5-crypt ($1$) and SHA-1 ({SHA}, {SSHA}) are known. The DES hashes of crypt(3) and
// plain text are refused: nobody should rely on them, and an entry that cannot be verified lets
// nobody in.
//
// github.com/tg123/go-htpasswd computes the hashes. What it is given is checked here: it takes
// malformed hashes, its errors quote them, and nothing bounds what one costs.
package htpasswd

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/bcrypt"
)

const (
	// MaxSize is the size in bytes of the largest file.
	MaxSize = 1 << 20
	// maxCost and maxRounds bound the work of one verification, to about a second.
	maxCost   = 14
	maxRounds = 500_000
	// maxPassword is the longest password that is looked at, in bytes.
	maxPassword = 1024
)

// Users are the entries of one file.
type Users struct {
	entries map[string]entry
	decoy   entry // of the costliest kind that is in use
}

type entry struct {
	hash     string
	password htpasswd.EncodedPasswd
}

// Parse reads a file. An entry that cannot be used is left out and said by problems, which
// name the line and never the hash; an error says that there is no usable entry at all.
func Parse(file []byte) (u *Users, problems []string, err error) {
	if len(file) > MaxSize {
		return nil, nil, fmt.Errorf("%d bytes are more than %d", len(file), MaxSize)
	}
	u = &Users{entries: map[string]entry{}}
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
		case u.entries[name].hash != "":
			problems = append(problems, fmt.Sprintf("line %d names a user again: the first entry counts", number))
			continue
		}
		password, err := parse(hash)
		if err != nil {
			problems = append(problems, fmt.Sprintf("line %d: %v", number, err))
			continue
		}
		u.entries[name] = entry{hash, password}
		if u.decoy.hash == "" || strings.HasPrefix(hash, "$2") {
			u.decoy = u.entries[name]
		}
	}
	if len(u.entries) == 0 {
		return nil, problems, fmt.Errorf("no line has a NAME:HASH that can be used")
	}
	return u, problems, nil
}

var (
	md5Hash = regexp.MustCompile(`^\$(apr1|1)\$[^$]{0,8}\$[./0-9A-Za-z]{22}$`)
	shaHash = regexp.MustCompile(`^\$([56])\$(?:rounds=([1-9][0-9]{3,8})\$)?[^$]{1,16}\$([./0-9A-Za-z]+)$`)
	// shaDigits are how many digits a digest of kind 5 and 6 has.
	shaDigits = map[string]int{"5": 43, "6": 86}
)

// parse says what is wrong with a hash, without a byte of it.
func parse(hash string) (htpasswd.EncodedPasswd, error) {
	switch {
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil || len(hash) != 60:
			return nil, errors.New("the bcrypt hash is malformed")
		case cost > maxCost:
			return nil, fmt.Errorf("bcrypt cost %d is more than %d, which takes a second: make the hash anew with htpasswd -B", cost, maxCost)
		}
		return htpasswd.AcceptBcrypt(hash)
	case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"):
		parts := shaHash.FindStringSubmatch(hash)
		if parts == nil || len(parts[3]) != shaDigits[parts[1]] {
			return nil, errors.New("the SHA hash of crypt(3) is malformed")
		}
		if rounds, err := strconv.Atoi(parts[2]); err == nil && rounds > maxRounds {
			return nil, fmt.Errorf("%d rounds are more than %d, which take a second: make the hash anew with htpasswd -B", rounds, maxRounds)
		}
		return htpasswd.AcceptCryptSha(hash)
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		if !md5Hash.MatchString(hash) {
			return nil, errors.New("the MD5 hash is malformed")
		}
		return htpasswd.AcceptMd5(hash)
	case strings.HasPrefix(hash, "{SHA}"):
		if sum, err := base64.StdEncoding.DecodeString(hash[len("{SHA}"):]); err != nil || len(sum) != sha1.Size {
			return nil, errors.New("the SHA hash is malformed")
		}
		return htpasswd.AcceptSha(hash)
	case strings.HasPrefix(hash, "{SSHA}"):
		if sum, err := base64.StdEncoding.DecodeString(hash[len("{SSHA}"):]); err != nil || len(sum) <= sha1.Size {
			return nil, errors.New("the SSHA hash is malformed")
		}
		return htpasswd.AcceptSsha(hash)
	}
	return nil, errors.New("the hash is of no known kind: make it with htpasswd -B (bcrypt)")
}

// Len returns the number of users.
func (u *Users) Len() int { return len(u.entries) }

// Hash returns a user's hash, "" for one that does not exist. It identifies what a
// verification was made against.
func (u *Users) Hash(name []byte) string { return u.entries[string(name)].hash }

// Verify reports whether the password is the user's. It takes milliseconds with bcrypt, and
// about as long for a name that does not exist, so that names cannot be told by time.
func (u *Users) Verify(name, password []byte) bool {
	if len(password) > maxPassword {
		return false
	}
	e, known := u.entries[string(name)]
	if !known {
		e = u.decoy
	}
	if strings.HasPrefix(e.hash, "$2") {
		password = password[:min(len(password), 72)] // as the original: what is behind does not count
	}
	return e.password.MatchesPassword(string(password)) && known
}
