package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// filesInterval is how often certificate files are looked at.
	filesInterval = 5 * time.Second
	// maxCertificateFile is the size in bytes of the largest one.
	maxCertificateFile = 1 << 20
)

// CertificateFiles is a certificate that stands in two PEM files. They are looked at
// rather than watched: what renews them may replace the files, a link, or a whole folder.
type CertificateFiles struct {
	chain, key string
	seen       [2]fileState
	at         time.Time // of the last look

	certificate model.Certificate // the last that was valid
	problem     string            // why the files are not in force as they are, "" if they are
}

// fileState is what differs when a file has changed.
type fileState struct {
	size     int64
	modified time.Time
	inode    os.FileInfo
}

// OpenCertificateFiles reads a chain and its key.
func OpenCertificateFiles(chain, key string) (*CertificateFiles, error) {
	f := &CertificateFiles{chain: chain, key: key, at: time.Now()}
	if chain == "" || key == "" {
		return nil, errors.New("want CHAIN,KEY: two files")
	}
	f.seen = f.look()
	var err error
	if f.certificate, err = f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// refresh reads the files again if they have changed. What was valid stays in force until
// both files are: they are seldom replaced at the same moment.
func (f *CertificateFiles) refresh(now time.Time) (changed bool) {
	if f == nil || now.Sub(f.at) < filesInterval {
		return false
	}
	f.at = now
	seen := f.look()
	if same(seen[0], f.seen[0]) && same(seen[1], f.seen[1]) && f.problem == "" {
		return false
	}
	f.seen = seen
	problem := ""
	next, err := f.read()
	if err != nil {
		problem = err.Error()
	}
	if err == nil && (string(next.Chain) != string(f.certificate.Chain) || string(next.Key) != string(f.certificate.Key)) {
		f.certificate, changed = next, true
	}
	changed = changed || problem != f.problem
	f.problem = problem
	return changed
}

func (f *CertificateFiles) look() (seen [2]fileState) {
	for i, path := range []string{f.chain, f.key} {
		if info, err := os.Stat(path); err == nil {
			seen[i] = fileState{info.Size(), info.ModTime(), info}
		}
	}
	return seen
}

func same(a, b fileState) bool {
	if a.inode == nil || b.inode == nil {
		return a.inode == nil && b.inode == nil
	}
	return a.size == b.size && a.modified.Equal(b.modified) && os.SameFile(a.inode, b.inode)
}

func (f *CertificateFiles) read() (model.Certificate, error) {
	chain, err := readBounded(f.chain)
	if err != nil {
		return model.Certificate{}, err
	}
	key, err := readBounded(f.key)
	if err != nil {
		return model.Certificate{}, err
	}
	c, err := cert.Pair("file:"+f.chain, chain, key)
	if err != nil {
		text := strings.NewReplacer("tls.crt", f.chain, "tls.key", f.key).Replace(err.Error())
		return model.Certificate{}, errors.New(text)
	}
	return c, nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCertificateFile+1))
	if err == nil && len(text) > maxCertificateFile {
		err = fmt.Errorf("%s is larger than %d KiB", path, maxCertificateFile>>10)
	}
	return text, err
}
