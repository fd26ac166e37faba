package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/userspace/control/prefixlist"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// prefixLists are the lists of a node; see lists.Lists.
type prefixLists interface {
	Add(lists.List, []netip.Prefix) (int, error)
	Remove(lists.List, []netip.Prefix) (int, error)
	Entries(lists.List) ([]lists.Prefix, error)
	Close() error
}

func openLists(bpffs string) (prefixLists, error) { return lists.Open(bpffs) }

// ownAddresses returns the node's addresses.
func ownAddresses() (out []netip.Addr) {
	addresses, _ := net.InterfaceAddrs() // for a warning alone
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out
}

// listCommand is one of the two lists as a command.
type listCommand struct {
	e    env
	o    *options
	name string // "deny" or "allow"
	list lists.List
	file string
}

// listChange is what add and del print.
type listChange struct {
	List      string         `json:"list"`
	Changed   int            `json:"changed"`
	Unchanged int            `json:"unchanged"`               // were there already, or were not there
	Declared  []netip.Prefix `json:"stillDeclared,omitempty"` // taken back, but in force by configuration
}

func newDeny(e env, o *options) *cobra.Command {
	return newList(&listCommand{e: e, o: o, name: "deny", list: lists.Deny},
		"Drop the packets of source prefixes, with immediate effect",
		`deny changes the list of source prefixes whose packets to the ingress addresses are
dropped early, before they use any memory. Sources that are also on the allow list pass.`)
}

func newAllow(e env, o *options) *cobra.Command {
	return newList(&listCommand{e: e, o: o, name: "allow", list: lists.Allow},
		"Exempt source prefixes from the deny list",
		`allow changes the list of exceptions from the deny list: a source on both lists passes.`)
}

func newList(l *listCommand, short, long string) *cobra.Command {
	c := &cobra.Command{
		Use:   l.name,
		Short: short,
		Long: long + `

A change takes effect at once, on this node only. It survives restarts of the agent, but
not a reboot of the node. Prefixes that should be permanent or apply to all nodes belong in
the agent's configuration. A prefix that is configured there too stays in effect when it is
deleted here.`,
		Example: fmt.Sprintf(`  kerngatectl %[1]s add 198.51.100.0/24 2001:db8:bad::/48
  kerngatectl %[1]s list
  kerngatectl %[1]s del 198.51.100.0/24`, l.name),
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(l.add(), l.del(), l.show())
	return c
}

func (l *listCommand) add() *cobra.Command {
	force := false
	c := &cobra.Command{
		Use:   "add PREFIX...",
		Short: "Add prefixes to the list",
		Long: `add adds prefixes to the list; an address counts as the prefix of that single address.
Adding a prefix twice is not an error. If one prefix is invalid, none is added.`,
		Example: fmt.Sprintf(`  kerngatectl %[1]s add 198.51.100.0/24 2001:db8:bad::/48 203.0.113.9
  kerngatectl %[1]s add -f prefixes.txt
  curl -s https://feeds.example.com/bad.txt | kerngatectl %[1]s add -f -`, l.name),
		RunE: func(c *cobra.Command, args []string) error {
			prefixes, err := l.read(c, args)
			if err == nil && l.list == lists.Deny {
				err = l.consider(prefixes, force)
			}
			if err != nil {
				return err
			}
			return l.change("add", prefixes)
		},
	}
	l.fromFile(c)
	if l.list == lists.Deny {
		c.Flags().BoolVar(&force, "force", false, "deny all addresses, if a prefix covers them")
	}
	return c
}

func (l *listCommand) del() *cobra.Command {
	c := &cobra.Command{
		Use:     "del PREFIX...",
		Aliases: []string{"delete", "remove", "rm"},
		Short:   "Remove prefixes from the list",
		Long: `del removes prefixes that add has put on the list; each must be the same prefix that was
added. Removing a prefix that is not on the list is not an error.`,
		Example: fmt.Sprintf(`  kerngatectl %[1]s del 198.51.100.0/24
  kerngatectl %[1]s del -f prefixes.txt`, l.name),
		RunE: func(c *cobra.Command, args []string) error {
			prefixes, err := l.read(c, args)
			if err != nil {
				return err
			}
			return l.change("del", prefixes)
		},
	}
	l.fromFile(c)
	return c
}

func (l *listCommand) fromFile(c *cobra.Command) {
	c.Flags().StringVarP(&l.file, "file", "f", "", "`file` to read more prefixes from, - for standard input. Blanks, commas or line ends separate prefixes, # begins a comment")
}

func (l *listCommand) show() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "Show the list, and where each prefix was declared",
		Example: fmt.Sprintf(`  kerngatectl %[1]s list
  kerngatectl %[1]s list -o json | jq -r '.prefixes[] | select(.source | contains("operator")).prefix'`, l.name),
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			lists, err := l.e.openLists(l.o.bpffs)
			if err != nil {
				return mapsError(l.o, err)
			}
			defer lists.Close()
			entries, err := lists.Entries(l.list)
			if err != nil {
				return err
			}
			all := struct {
				Prefixes []explain.Prefix `json:"prefixes"`
			}{prefixes(entries)}
			return show(l.e.stdout, l.o, all, func(w io.Writer) {
				var rows [][]string
				for _, p := range all.Prefixes {
					rows = append(rows, []string{p.Prefix.String(), p.Source})
				}
				columns(w, "PREFIX DECLARED-BY", rows)
			})
		},
	}
}

// maxToldErrors is how many wrong lines of a file are told.
const maxToldErrors = 10

// read returns the prefixes of the command line and the file, sorted, each once.
func (l *listCommand) read(c *cobra.Command, args []string) (all []netip.Prefix, err error) {
	if len(args) == 0 && l.file == "" {
		return nil, usageError{fmt.Errorf("%s takes prefixes, or a file with -f; see %[1]s --help", c.CommandPath())}
	}
	for _, text := range args {
		p, err := prefixlist.Parse(text)
		if err != nil {
			return nil, usageError{err}
		}
		all = append(all, p)
	}
	if l.file != "" {
		found, err := l.readFile()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return prefixlist.Sort(all), nil
}

func (l *listCommand) readFile() ([]netip.Prefix, error) {
	name, from := "standard input", l.e.stdin
	if l.file != "-" {
		file, err := os.Open(l.file)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		name, from = l.file, file
	}
	found, wrong, err := prefixlist.Read(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	for i, w := range wrong {
		if i == maxToldErrors {
			errs = append(errs, fmt.Errorf("%s: %d further lines are wrong", name, len(wrong)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", name, w))
	}
	return found, errors.Join(errs...)
}

// consider refuses to deny everybody, and warns of denying oneself.
func (l *listCommand) consider(prefixes []netip.Prefix, force bool) error {
	own := l.e.ownAddresses()
	// "client port server port" of the session that this command runs in.
	client, _, _ := strings.Cut(l.e.getenv("SSH_CONNECTION"), " ")
	operator, err := netip.ParseAddr(client)
	for _, p := range prefixes {
		if prefixlist.HoldsEverybody(p) && !force {
			return fmt.Errorf("%s contains all addresses: add it with --force if that is intended", p)
		}
		if err == nil && prefixlist.Holds(p, operator) {
			fmt.Fprintf(l.e.stderr, "warning: %s holds %s, where you come from by SSH: only packets to the ingress addresses are dropped, but is that meant?\n", p, operator)
		}
		for _, a := range own {
			if prefixlist.Holds(p, a) && !a.IsLoopback() {
				fmt.Fprintf(l.e.stderr, "warning: %s holds %s, an address of this node\n", p, a)
			}
		}
	}
	return nil
}

// change changes the list and says what came of it, also when not all of it could be done.
func (l *listCommand) change(verb string, prefixes []netip.Prefix) error {
	lists, err := l.e.openLists(l.o.bpffs)
	if err != nil {
		return mapsError(l.o, err)
	}
	defer lists.Close()
	result := listChange{List: l.name}
	do := prefixLists.Add
	if verb == "del" {
		do = prefixLists.Remove
	}
	result.Changed, err = do(lists, l.list, prefixes)
	if err == nil {
		result.Unchanged = len(prefixes) - result.Changed
		if verb == "del" {
			result.Declared, err = l.stillDeclared(lists, prefixes)
		}
	}
	return errors.Join(show(l.e.stdout, l.o, result, func(w io.Writer) {
		fmt.Fprintf(w, "%d changed on the %s list", result.Changed, l.name)
		if result.Unchanged > 0 {
			fmt.Fprintf(w, ", %d were so already", result.Unchanged)
		}
		fmt.Fprintln(w)
		for _, p := range result.Declared {
			fmt.Fprintf(w, "%s stays: the agent's configuration declares it\n", p)
		}
	}), err)
}

// stillDeclared returns which of the prefixes are on the list by configuration.
func (l *listCommand) stillDeclared(lists prefixLists, prefixes []netip.Prefix) (still []netip.Prefix, err error) {
	entries, err := lists.Entries(l.list)
	for _, entry := range entries {
		if _, asked := slices.BinarySearchFunc(prefixes, entry.Prefix, netip.Prefix.Compare); asked {
			still = append(still, entry.Prefix)
		}
	}
	return still, err
}

// declaredBy names the bits of enum kg_prefix_source.
func declaredBy(source uint32) string {
	var names []string
	if source&abi.PrefixConfig != 0 {
		names = append(names, "config")
	}
	if source&abi.PrefixOperator != 0 {
		names = append(names, "operator")
	}
	return strings.Join(names, ",")
}
