package folder

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// quiet is how long nothing must happen in the folder before it is read, so that a
	// program that writes several files is not seen half way; maxDelay bounds the wait.
	quiet    = 5 * time.Millisecond
	maxDelay = 500 * time.Millisecond
	// refill is how long an emptied file is given to be written.
	refill = 300 * time.Millisecond
	// rescan finds what no notification tells of: targets of links, network file systems.
	rescan = 10 * time.Second
)

// Source watches a folder of manifests.
type Source struct {
	folder  folder
	log     zerolog.Logger
	updates chan model.Update

	mu       sync.Mutex // guards lastSeen and lastError
	lastSeen time.Time
	lastErr  string
}

// New returns a source for the manifests directly in the folder at path.
func New(path string, options kube.Options, log zerolog.Logger) *Source {
	options.ClassOptional = true
	if absolute, err := filepath.Abs(path); err == nil { // its parent must have a name
		path = absolute
	}
	return &Source{
		folder:  folder{path: path, translator: kube.NewTranslator(options)},
		log:     log,
		updates: make(chan model.Update),
	}
}

// Updates delivers the state of the folder, the first one as soon as Run has read it.
func (s *Source) Updates() <-chan model.Update { return s.updates }

// Describe says where the manifests are and when they were last read.
func (s *Source) Describe() status.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := status.Source{Kind: "manifests", Location: s.folder.path, Error: s.lastErr}
	if seen := s.lastSeen; !seen.IsZero() {
		d.LastSeen = &seen
	}
	return d
}

// read reads the folder and notes how that went.
func (s *Source) read(believeEmpty bool) (changed, emptied bool) {
	changed, emptied = s.folder.read(believeEmpty)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = ""
	if s.folder.problem != nil {
		s.lastErr = s.folder.problem.Message
	} else {
		s.lastSeen = time.Now()
	}
	return changed, emptied
}

// Run watches until ctx ends. It fails only if the folder cannot be read at the start.
func (s *Source) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w (is fs.inotify.max_user_instances exhausted?)", s.folder.path, err)
	}
	defer watcher.Close()
	s.watch(watcher)

	s.read(true)
	if s.folder.problem != nil {
		return fmt.Errorf("manifests: %s", s.folder.problem.Message)
	}
	if !s.send(ctx) {
		return nil
	}

	// What can happen: something changes in the folder or to its name (the read is put
	// off until it is quiet), the wait is over, it is time to look without being told,
	// the watcher is overrun, or the agent ends.
	var wait <-chan time.Time
	var first, emptiedAt time.Time
	ticker := time.NewTicker(rescan)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-watcher.Events:
			if event.Op == fsnotify.Chmod || event.Name != s.folder.path && filepath.Dir(event.Name) != s.folder.path {
				continue // a neighbour of the folder
			}
			if wait == nil {
				first = time.Now()
			}
			wait = time.After(min(quiet, maxDelay-min(maxDelay, time.Since(first))))
			continue
		case err := <-watcher.Errors:
			s.log.Warn().Err(err).Str("folder", s.folder.path).Msg("watching manifests; reading all of them")
		case <-ticker.C:
		case <-wait:
		}
		wait = nil
		s.watch(watcher)
		changed, emptied := s.read(!emptiedAt.IsZero() && time.Since(emptiedAt) >= refill)
		if !emptied {
			emptiedAt = time.Time{}
		} else {
			if emptiedAt.IsZero() {
				emptiedAt = time.Now()
			}
			wait = time.After(refill)
		}
		if changed && !s.send(ctx) {
			return nil
		}
	}
}

// watch watches the folder and, since it may be a link that is swapped, the one that
// holds its name. Watching the same inode again is nothing.
func (s *Source) watch(watcher *fsnotify.Watcher) {
	watcher.Remove(s.folder.path)
	if err := watcher.Add(s.folder.path); err != nil {
		s.log.Warn().Err(err).Str("folder", s.folder.path).Msgf("cannot watch manifests; looking every %v", rescan)
	}
	watcher.Add(filepath.Dir(s.folder.path)) // best effort: rescan covers it
}

func (s *Source) send(ctx context.Context) bool {
	select {
	case s.updates <- s.folder.update():
		return true
	case <-ctx.Done():
		return false
	}
}
