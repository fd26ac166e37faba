//go:build linux && applications

package applications

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

const (
	postgresHost = "postgres.test"
	postgresPort = 5432
)

// postgres is published as an L4 service. Pods take turns: each conversation begins with one
// and ends with the next.
var postgres = application{
	name: "PostgreSQL", source: "Debian: postgresql, postgresql-contrib (pgbench); as an L4 service, nginx by its stream module",
	programs: []string{"psql", "pgbench"},
	version:  func(t *testing.T) string { return "psql " + versionOf(t, "psql", "--version") },
	publish:  publishPostgres,
	conversations: []conversation{
		{does: "psql: 1 MB there and back", talk: func(w *way) string {
			o := w.run("psql", "-h", postgresHost, "-U", "postgres", "-qAtc",
				"create temporary table t (v text); insert into t values ('"+strings.Repeat("x", 100_000)+"'); select repeat(v, 10) from t")
			return fmt.Sprintf("exit status %d, %d bytes", o.code, len(strings.TrimSpace(o.stdout)))
		}, want: "exit status 0, 1000000 bytes"},
		{does: "pgbench while the pod is replaced by another: 4 clients, a connection for each of 200 transactions",
			talk: func(w *way) string { return replacePostgres(w, "-C", "-t", "50") }, want: "200/200, 0 failed"},
		{does: "pgbench while the pod is replaced by another: 4 clients keep their connections, 4,000 transactions",
			talk: func(w *way) string { return replacePostgres(w, "-t", "1000") }, want: "4000/4000, 0 failed"},
	},
}

func TestPostgres(t *testing.T) { run(t, &postgres) }

// postgresPod is a pod with its server.
type postgresPod struct {
	pod    *lab.Pod
	server *lab.Process
}

// postgresUser is Debian's user: PostgreSQL does not run as root.
func postgresUser(t *testing.T) uint32 {
	t.Helper()
	u, err := user.Lookup("postgres")
	must(t, err)
	id, err := strconv.Atoi(u.Uid)
	must(t, err)
	return uint32(id)
}

func publishPostgres(s *site) {
	s.add(publication{host: postgresHost, pod: s.startPostgres("postgres-0").pod, port: postgresPort, tcp: postgresPort})
}

// postgresBin is where Debian keeps the server's programs, by version.
func postgresBin(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	must(t, err)
	if len(found) == 0 {
		skip(t, "needs postgresql: scripts/setup applications installs it")
	}
	return filepath.Dir(found[len(found)-1])
}

// startPostgres starts a pod with a database of its own, filled for pgbench.
func (s *site) startPostgres(name string) *postgresPod {
	s.t.Helper()
	id, bin, data := postgresUser(s.t), postgresBin(s.t), s.path(name)
	if first := s.path("postgres-0.filled"); name == "postgres-0" {
		must(s.t, os.Mkdir(first, 0o700))
		must(s.t, os.Chown(first, int(id), int(id)))
		init := exec.Command(filepath.Join(bin, "initdb"), "-D", first, "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
		init.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		init.Dir = "/"
		if out, err := init.CombinedOutput(); err != nil {
			s.t.Fatalf("initdb: %v\n%s", err, out)
		}
		access, err := os.OpenFile(filepath.Join(first, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
		must(s.t, err)
		fmt.Fprintln(access, "host all all 0.0.0.0/0 trust")
		must(s.t, access.Close())
	}
	if out, err := exec.Command("cp", "-a", s.path("postgres-0.filled"), data).CombinedOutput(); err != nil {
		s.t.Fatalf("cp: %v\n%s", err, out)
	}
	p := &postgresPod{pod: s.addPod(name)}
	p.server = s.serve(p.pod, postgresPort, lab.Command{
		Path: filepath.Join(bin, "postgres"), User: id, Name: "postgres",
		Args: []string{"-D", data, "-c", "listen_addresses=*", "-c", "unix_socket_directories=", "-c", "fsync=off", "-p", fmt.Sprint(postgresPort)},
	})
	must(s.t, lab.Until(20*time.Second, "database", func() error {
		_, err := p.ask("select 1")
		return err
	}))
	_, err := p.pod.Run(lab.Command{Path: "pgbench", Args: []string{"-h", "127.0.0.1", "-U", "postgres", "-i", "-q", "-s", "1", "postgres"}})
	must(s.t, err)
	return p
}

// ask asks the pod itself.
func (p *postgresPod) ask(query string) (string, error) {
	out, err := p.pod.Run(lab.Command{Path: "psql", Args: []string{"-h", "127.0.0.1", "-U", "postgres", "-Atc", query, "postgres"}})
	return strings.TrimSpace(out), err
}

var postgresCount int

var (
	pgProcessed = regexp.MustCompile(`transactions actually processed: (\S+)`)
	pgFailed    = regexp.MustCompile(`failed transactions: (\d+)`)
)

// replacePostgres runs pgbench, has another pod take the place of the one that it reaches, as
// a Deployment does, and returns how many transactions were done and failed.
func replacePostgres(w *way, args ...string) string {
	site := w.site
	postgresCount++
	from, to := site.startPostgres(fmt.Sprintf("postgres-%d", 2*postgresCount)), site.startPostgres(fmt.Sprintf("postgres-%d", 2*postgresCount+1))
	w.servePostgres(from)
	done := make(chan outcome, 1)
	go func() {
		done <- w.run("pgbench", append([]string{"-h", postgresHost, "-U", "postgres", "-n", "-S", "-c", "4", "-j", "1"}, append(args, "postgres")...)...)
	}()
	must(w.t, lab.Until(20*time.Second, "session of pgbench", func() error {
		if n, err := from.ask("select count(*) from pg_stat_activity where application_name = 'pgbench'"); err != nil || n == "0" {
			return fmt.Errorf("%s sessions, %v", n, err)
		}
		return nil
	}))
	w.servePostgres(to)
	// SIGTERM has PostgreSQL wait for the end of its sessions.
	if err := from.server.Stop(60 * time.Second); err != nil {
		w.t.Error(err)
	}
	o := <-done
	processed, failed := pgProcessed.FindStringSubmatch(o.stdout), pgFailed.FindStringSubmatch(o.stdout)
	if processed == nil || failed == nil {
		return outcomeText(o)
	}
	return fmt.Sprintf("%s, %s failed", processed[1], failed[1])
}

// servePostgres publishes a pod alone, and waits until new connections reach it.
func (w *way) servePostgres(p *postgresPod) {
	w.t.Helper()
	w.published[0].pod = p.pod
	w.publishTCP(w.published[0], p.pod)
	w.writeNginx()
	must(w.t, w.nginx.Signal(syscall.SIGHUP))
	address := netip.AddrPortFrom(w.address(postgresHost), postgresPort)
	must(w.t, lab.Until(20*time.Second, "connection to the new pod", func() error {
		at, err := w.lab.Client.Run(lab.Command{Path: "psql", Args: []string{
			"-h", address.Addr().String(), "-U", "postgres", "-Atc", "select inet_server_addr()", "postgres"}})
		if err == nil && strings.TrimSpace(at) != p.pod.IPv4.String() {
			err = fmt.Errorf("the server is %s", at)
		}
		return err
	}))
}
