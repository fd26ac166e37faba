//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
)

// colours reports whether the output is a terminal that may be coloured (no-color.org).
var colours = func() bool {
	info, err := os.Stdout.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}()

func paint(code, text string) string {
	if !colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func bold(text string) string  { return paint("1", text) }
func dim(text string) string   { return paint("2", text) }
func red(text string) string   { return paint("31", text) }
func green(text string) string { return paint("32", text) }
func cyan(text string) string  { return paint("36", text) }

var headings int

// heading numbers the acts.
func heading(text string) {
	headings++
	fmt.Printf("\n%s %s\n", bold(cyan(fmt.Sprintf("%d.", headings))), bold(text))
}

// table prints rows in aligned columns; the first row is its heading. A cell that begins
// with "ok" or "WRONG" is coloured.
func table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(cell))
		}
	}
	for n, row := range rows {
		fmt.Print("   ")
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-len(cell)+2)
			if i == len(row)-1 {
				padding = ""
			}
			switch {
			case n == 0:
				cell = dim(cell)
			case strings.HasPrefix(cell, "ok"):
				cell = green(cell)
			case strings.HasPrefix(cell, "WRONG"):
				cell = red(cell)
			}
			fmt.Print(cell, padding)
		}
		fmt.Println()
	}
}

// quote prints a program's output, indented.
func quote(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Print("   ", line)
	}
	fmt.Println()
}

// command prints what a user would type.
func command(text string) { fmt.Println("   " + dim("$") + " " + bold(text)) }
