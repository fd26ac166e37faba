package cluster

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// The file holds objects as the API server sends them, and not what was made of them: their
// encoding is stable, so that another version of the agent, or one with other flags, makes of
// them what it would make of the cluster's.
//
// It begins with a line of text: name, version of the format, SHA-256 and length of the rest.
// The rest is the URL of the API server and then the objects, each as its kind (a byte), its
// length (a varint) and its encoding in protobuf.
const (
	keptName    = "objects"
	keptTemp    = keptName + ".new"
	keptAside   = keptName + ".unreadable" // one that was not understood, for people to look at
	keptVersion = 1
	keptHeader  = "kerngate objects %03d %s %012d\n"
	// keptMost bounds the file, which takes the node's memory. 20,000 Ingresses with 5,000
	// Services and 100,000 endpoints take about a tenth of it.
	keptMost = 256 << 20
)

var keptHeaderLen = int64(len(fmt.Sprintf(keptHeader, keptVersion, hex.EncodeToString(make([]byte, sha256.Size)), 0)))

var (
	errKeptTooLarge   = fmt.Errorf("the objects take more than %d MiB", keptMost>>20)
	errKeptUnreadable = errors.New("unreadable")
)

// kinds of records. Numbers are never used again for something else.
const (
	keptServer = iota
	keptIngress
	keptClass
	keptService
	keptSlice
	keptSecret
	keptConfigMap
	keptNamespace
)

type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// kept is what the file holds.
type kept struct {
	server  string
	objects kube.Objects
}

// keptWriter writes records, of which it takes the sum.
type keptWriter struct {
	out  *bufio.Writer
	sum  hash.Hash
	size int64
	err  error
}

func (w *keptWriter) write(raw []byte) {
	if w.size += int64(len(raw)); w.size > keptMost && w.err == nil {
		w.err = errKeptTooLarge
	}
	if w.err == nil {
		w.sum.Write(raw)
		_, w.err = w.out.Write(raw)
	}
}

func (w *keptWriter) record(kind byte, raw []byte) {
	w.write(binary.AppendUvarint([]byte{kind}, uint64(len(raw))))
	w.write(raw)
}

func writeAll[T message](w *keptWriter, kind byte, all []T) {
	for _, o := range all {
		if w.err != nil {
			return
		}
		raw, err := o.Marshal()
		if err != nil {
			w.err = err
			return
		}
		w.record(kind, raw)
	}
}

// writeKept replaces the file of a folder by one with these objects. Whoever reads it sees the
// whole of the old one or of the new one.
func writeKept(folder string, k kept) (err error) {
	temp := filepath.Join(folder, keptTemp)
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err == nil {
			err = os.Rename(temp, filepath.Join(folder, keptName))
		}
		if err != nil {
			os.Remove(temp)
			return
		}
		err = syncFolder(folder)
	}()
	if _, err := file.Seek(keptHeaderLen, io.SeekStart); err != nil {
		return err
	}
	w := &keptWriter{out: bufio.NewWriterSize(file, 1<<16), sum: sha256.New()}
	w.record(keptServer, []byte(k.server))
	writeAll(w, keptIngress, k.objects.Ingresses)
	writeAll(w, keptClass, k.objects.Classes)
	writeAll(w, keptService, k.objects.Services)
	writeAll(w, keptSlice, k.objects.Slices)
	writeAll(w, keptSecret, k.objects.Secrets)
	writeAll(w, keptConfigMap, k.objects.ConfigMaps)
	writeAll(w, keptNamespace, k.objects.Gateway.Namespaces)
	if w.err != nil {
		return w.err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	if _, err := file.WriteAt(fmt.Appendf(nil, keptHeader, keptVersion, hex.EncodeToString(w.sum.Sum(nil)), w.size), 0); err != nil {
		return err
	}
	return file.Sync()
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readKept reads the file of a folder. The error is errKeptUnreadable if there is one that cannot
// be understood.
func readKept(folder string) (k kept, info os.FileInfo, err error) {
	file, err := os.OpenFile(filepath.Join(folder, keptName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return k, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return k, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > keptHeaderLen+keptMost {
		return k, nil, fmt.Errorf("%w: not a file of at most %d MiB", errKeptUnreadable, keptMost>>20)
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return k, nil, err
	}
	k, err = parseKept(raw)
	return k, info, err
}

func parseKept(raw []byte) (k kept, err error) {
	var version int
	var sum string
	var size int64
	if int64(len(raw)) < keptHeaderLen {
		return k, fmt.Errorf("%w: it ends too early", errKeptUnreadable)
	}
	if _, err := fmt.Sscanf(string(raw[:keptHeaderLen]), keptHeader, &version, &sum, &size); err != nil {
		return k, fmt.Errorf("%w: it does not begin as such a file does", errKeptUnreadable)
	}
	if version != keptVersion {
		return k, fmt.Errorf("%w: it has format %d, this version of the agent reads format %d", errKeptUnreadable, version, keptVersion)
	}
	raw = raw[keptHeaderLen:]
	if have := sha256.Sum256(raw); size != int64(len(raw)) || sum != hex.EncodeToString(have[:]) {
		return k, fmt.Errorf("%w: its checksum is wrong, so it is damaged", errKeptUnreadable)
	}
	for len(raw) > 0 {
		kind := raw[0]
		length, n := binary.Uvarint(raw[1:])
		if n <= 0 || length > uint64(len(raw)-1-n) {
			return k, fmt.Errorf("%w: a record ends too early", errKeptUnreadable)
		}
		body := raw[1+n : 1+n+int(length)]
		raw = raw[1+n+int(length):]
		if err := k.add(kind, body); err != nil {
			return k, fmt.Errorf("%w: a record of kind %d: %w", errKeptUnreadable, kind, err)
		}
	}
	return k, nil
}

func (k *kept) add(kind byte, body []byte) error {
	o := &k.objects
	switch kind {
	case keptServer:
		k.server = string(bytes.Clone(body))
		return nil
	case keptIngress:
		return addTo(&o.Ingresses, new(networkingv1.Ingress), body)
	case keptClass:
		return addTo(&o.Classes, new(networkingv1.IngressClass), body)
	case keptService:
		return addTo(&o.Services, new(corev1.Service), body)
	case keptSlice:
		return addTo(&o.Slices, new(discoveryv1.EndpointSlice), body)
	case keptSecret:
		return addTo(&o.Secrets, new(corev1.Secret), body)
	case keptConfigMap:
		return addTo(&o.ConfigMaps, new(corev1.ConfigMap), body)
	case keptNamespace:
		return addTo(&o.Gateway.Namespaces, new(corev1.Namespace), body)
	}
	return errors.New("this version of the agent does not know it")
}

func addTo[T message](all *[]T, one T, body []byte) error {
	*all = append(*all, one)
	return one.Unmarshal(body)
}
