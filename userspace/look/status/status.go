// Package status holds what an agent tells about itself: the JSON that answers a Query
// on its socket and that kerngatectl shows. In: nothing. Out: plain values.
//
// The field names are what scripts of operators read, so they are only added, never
// renamed. Lists are sorted as their comments say, so that two answers can be compared.
// The package imports the standard library and package model alone: agent and kerngatectl
// both link it.
package status

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
)

// What names the parts that a Query can ask for.
const (
	QueryStatus   = "status"   // Status
	QueryRoutes   = "routes"   // Routes
	QueryServices = "services" // Services
	QueryProblems = "problems" // Problems
	QueryProxies  = "proxies"  // Proxies

	QueryCertificates = "certificates" // Certificates

	// These two change something, and are answered with Drain.
	QueryDrain   = "drain"
	QueryUndrain = "undrain"
)

// Status is the agent at a glance.
type Status struct {
	Version    string        `json:"version"`
	GoVersion  string        `json:"goVersion,omitempty"`
	MapABI     uint32        `json:"mapABI"`
	FeedMin    uint32        `json:"feedMin,omitempty"` // oldest feed version it speaks
	FeedMax    uint32        `json:"feedMax,omitempty"`
	PID        int           `json:"pid"`
	Node       string        `json:"node"`
	StartedAt  time.Time     `json:"startedAt"`
	Uptime     Duration      `json:"uptime"`
	Ready      bool          `json:"ready"`
	NotReady   string        `json:"notReady,omitempty"` // why, and what to do; empty when Ready
	Source     Source        `json:"source"`
	Class      string        `json:"class"` // IngressClass that is served
	Addresses  []string      `json:"addresses"`
	Listeners  []Listener    `json:"listeners"`
	BPFFS      string        `json:"bpffs"`
	Epoch      string        `json:"epoch"` // identity of this set of maps
	Attached   []Attachment  `json:"attached"`
	Kernel     string        `json:"kernel,omitempty"` // release, as uname -r
	Features   []Feature     `json:"features"`
	Maps       []Map         `json:"maps"`
	Proxies    []Generation  `json:"proxies"`
	Counts     Counts        `json:"counts"`
	Apply      Apply         `json:"apply"`
	Replaced   []Replacement `json:"replaced,omitempty"` // settings that could not be honoured as written
	AccessLog  string        `json:"accessLog,omitempty"`
	RunsProxy  bool          `json:"runsProxy"` // the agent supervises a child proxy
	ConfigFile string        `json:"configFile,omitempty"`
	Fabric     *Fabric       `json:"fabric,omitempty"` // nil: nodes do nothing for each other
}

// Fabric is what nodes do for each other.
type Fabric struct {
	Connections bool         `json:"connections"` // hand packets to who has the connection (--fabric)
	DSR         bool         `json:"dsr"`         // hand packets to the nodes of their pods (--l4-dsr)
	Port        uint16       `json:"port"`
	Slots       int          `json:"slots"` // into which connections are spread
	Nodes       []FabricNode `json:"nodes"`
}

// Drain says whether this node gets new connections.
type Drain struct {
	Node     string `json:"node"`
	Draining bool   `json:"draining"`
}

// FabricNode is a node that takes part.
type FabricNode struct {
	Name      string   `json:"name"` // "" if it has gone
	ID        string   `json:"id"`   // as in kg_nodes, hexadecimal
	Addresses []string `json:"addresses"`
	State     string   `json:"state"` // serving, draining, not ready, silent, gone
	Self      bool     `json:"self,omitempty"`
	Slots     int      `json:"slots"` // of Fabric.Slots that it owns: its share of new connections
}

// Listener is an address and port at which requests are taken.
type Listener struct {
	Name     string `json:"name"`     // "http" and "https" of Ingress
	Address  string `json:"address"`  // with its port
	Protocol string `json:"protocol"` // "HTTP", "HTTPS" or "HTTPS and HTTP/3"
}

// Source says where the desired state comes from.
type Source struct {
	Kind     string     `json:"kind"`     // "cluster" or "manifests"
	Location string     `json:"location"` // API server URL or folder
	Synced   bool       `json:"synced"`   // the initial list has been read
	Waiting  []string   `json:"waiting,omitempty"`
	LastSeen *time.Time `json:"lastSeen,omitempty"` // last event or read
	// Kept is when the objects that are served were current, if they are those that the node had
	// kept since the API server has not answered this agent yet.
	Kept  *time.Time `json:"kept,omitempty"`
	Error string     `json:"error,omitempty"` // last error, empty once it is over
}

// Attachment is one program on one hook.
type Attachment struct {
	Program string `json:"program"`        // kg_lookup, kg_xdp
	Where   string `json:"where"`          // "netns" or the interface
	Mode    string `json:"mode,omitempty"` // XDP: native or generic
	Reason  string `json:"reason,omitempty"`
}

// Feature is one thing that was asked of the kernel at start.
type Feature struct {
	Name       string `json:"name"`
	Present    bool   `json:"present"`
	NeededFor  string `json:"neededFor"`
	ReplacedBy string `json:"replacedBy,omitempty"` // what is used instead; empty: nothing can
}

// Map is the size of one kernel map.
type Map struct {
	Name       string `json:"name"`
	Entries    int64  `json:"entries"` // in use; -1 where counting is not meaningful
	MaxEntries uint32 `json:"maxEntries"`
	Bytes      uint64 `json:"bytes"` // memory that the kernel keeps for it
}

// Generation is one proxy.
type Generation struct {
	Number      uint32    `json:"number"`
	State       string    `json:"state"` // starting, serving, draining
	PID         int       `json:"pid,omitempty"`
	Build       string    `json:"build,omitempty"`
	Connected   bool      `json:"connected"` // to the feed; false: serving what it last had
	Config      uint64    `json:"config"`    // version it acknowledged
	Workers     []Worker  `json:"workers"`
	Connections uint64    `json:"connections"` // open client connections
	Since       time.Time `json:"since"`       // of State
	Refused     string    `json:"refused,omitempty"`
	Walls       []Wall    `json:"walls,omitempty"` // as the proxy says; none: it does not say
}

// Wall is a restriction that a proxy has put on itself, or could not.
type Wall struct {
	Name    string `json:"name"`
	InForce bool   `json:"inForce"`
	Missing string `json:"missing,omitempty"` // why it is not in force
}

// Worker is one reactor of a proxy.
type Worker struct {
	Index       int      `json:"index"`
	Connections uint32   `json:"connections"`
	Pending     uint32   `json:"pending"`
	Accepted    uint64   `json:"accepted"`
	Busy        Duration `json:"busy"` // since it last waited for events; 0: waiting now
	Hung        bool     `json:"hung"` // passed over for new connections
}

// Counts of what is published.
type Counts struct {
	Hosts     int `json:"hosts"`
	Routes    int `json:"routes"`
	Services  int `json:"services"`
	Backends  int `json:"backends"`
	Listeners int `json:"listeners"`

	Certificates int `json:"certificates"`
	Warnings     int `json:"warnings"` // problems that are served all the same
	Refused      int `json:"refused"`  // problems whose part is not served
}

// Apply is the last write to the kernel maps.
type Apply struct {
	At       *time.Time `json:"at,omitempty"` // nil: never
	Took     Duration   `json:"took"`
	Applied  uint64     `json:"applied"` // how many times, ever
	Failed   uint64     `json:"failed"`
	Error    string     `json:"error,omitempty"` // of the last one; it is tried again
	ErrorAt  *time.Time `json:"errorAt,omitempty"`
	Revision uint64     `json:"revision"` // of the configuration that proxies were sent
}

// Replacement is a setting of the operator that is not in effect as written.
type Replacement struct {
	Setting string `json:"setting"`
	Wanted  string `json:"wanted"`
	Used    string `json:"used"`
	Reason  string `json:"reason"`
}

// Routes is the whole routing table, by host and then in order of precedence.
type Routes struct {
	Hosts   []Host `json:"hosts"`
	Default string `json:"default,omitempty"` // service that answers what nothing matches; "": 404

	DefaultCertificate string   `json:"defaultCertificate,omitempty"` // "": proxies sign one themselves
	Authorities        []string `json:"authorities,omitempty"`        // ids; a host that names another refuses every client
}

// Host is one virtual host.
type Host struct {
	Name   string  `json:"name"` // "" any, "*.example.com" one label more
	Routes []Route `json:"routes"`
	TLS    *TLS    `json:"tls,omitempty"` // nil: the default certificate
}

// Match values of a Route.
const (
	MatchExact  = "Exact"
	MatchPrefix = "Prefix"
	MatchRegexp = "Regexp" // an RE2 expression, without case, from the path's beginning on
)

// Route sends a path of its host to a service.
type Route struct {
	Path    string            `json:"path"`
	Match   string            `json:"match"`          // MatchExact, MatchPrefix or MatchRegexp
	Service string            `json:"service"`        // "namespace/name:port"; "": the port does not exist, 503
	Kind    string            `json:"kind"`           // of the object that asks for it, such as Ingress
	Source  string            `json:"source"`         // "namespace/name" of that object
	When    *model.Conditions `json:"when,omitempty"` // what a request must be besides its path; nil: nothing

	RedirectHTTPS bool   `json:"redirectHTTPS,omitempty"` // 308 for clear-text requests
	ClearText     bool   `json:"clearText,omitempty"`     // served in clear text also where the host's clients must show a certificate
	Closed        string `json:"closed,omitempty"`        // why every request gets 503; "": they do not
	Rules         string `json:"rules,omitempty"`         // what else happens to requests, one rule a line
	Upstream      string `json:"upstream,omitempty"`      // what pods are spoken to by, such as "grpcs"; "": HTTP/1.1 in clear text
}

// QueryRules asks for the Rules of a route: it stands before the RuleOf of one, as JSON.
const QueryRules = "rules "

// RuleOf names a route.
type RuleOf struct {
	Host  string `json:"host"`
	Path  string `json:"path"`
	Match string `json:"match"`
	When  string `json:"when,omitempty"` // the conditions, as they are shown; "": none
}

// Object returns the object that asks for the route, such as "Ingress shop/main".
func (r Route) Object() string { return objectText(r.Kind, r.Source) }

// Conditions returns what a request must be besides its path, as it is shown; "": nothing.
func (r Route) Conditions() string {
	if r.When == nil {
		return ""
	}
	return r.When.String()
}

// objectText names an object. Agents of earlier versions know Ingresses alone, and name no kind.
func objectText(kind, source string) string { return cmp.Or(kind, "Ingress") + " " + source }

// Query returns what asks for the route's rules.
func (r RuleOf) Query() string {
	text, _ := json.Marshal(r) // strings alone
	return QueryRules + string(text)
}

// ParseRuleOf reads what Query has written. It reports false if it is another query.
func ParseRuleOf(query string) (r RuleOf, ok bool) {
	text, ok := strings.CutPrefix(query, QueryRules)
	return r, ok && json.Unmarshal([]byte(text), &r) == nil
}

// Rules is what happens to the requests of a route. It is for a kerngatectl of the agent's
// own version: the fields of package model are not those that scripts may read.
type Rules struct {
	Policy    *model.Policy    `json:"policy,omitempty"`
	Locations *model.Locations `json:"locations,omitempty"`
	Splits    []model.Split    `json:"splits,omitempty"`

	// What holds where the route says nothing, as the agent's flags say.
	MaxBody      uint64 `json:"maxBody,omitempty"`      // bytes, 0: no limit
	RedirectPort uint32 `json:"redirectPort,omitempty"` // that clients are sent to for https
}

// Services by Name.
type Services struct {
	Services []Service `json:"services"`
}

// Service is a group of backends as the agent wants it; what the maps hold is read
// from them.
type Service struct {
	ID          uint32    `json:"id"` // index into kg_services, 0: not published yet
	Name        string    `json:"name"`
	Algorithm   string    `json:"algorithm"` // "p2c", "round-robin" or "ewma"
	PreferLocal bool      `json:"preferLocal,omitempty"`
	Listeners   []string  `json:"listeners,omitempty"` // of an L4 service: "address:port/tcp"
	Backends    []Backend `json:"backends"`            // by Address
}

// Backend is one pod's port.
type Backend struct {
	ID       uint32 `json:"id,omitempty"`
	Address  string `json:"address"` // "address:port"
	Pod      string `json:"pod,omitempty"`
	Node     string `json:"node,omitempty"`
	Local    bool   `json:"local,omitempty"`
	Draining bool   `json:"draining,omitempty"`
}

// Problems by Object and Reason.
type Problems struct {
	Problems []Problem `json:"problems"`
}

// Problem is something about an object that its author should know.
type Problem struct {
	Object   string    `json:"object"`   // "Kind namespace/name"
	Severity string    `json:"severity"` // Warning: served, but not as its author may expect; Refused: this part is not served
	Reason   string    `json:"reason"`   // CamelCase, stable: the event's reason
	Message  string    `json:"message"`
	Since    time.Time `json:"since"`
}

// Proxies by Number, newest first.
type Proxies struct {
	Proxies []Generation `json:"proxies"`
}
