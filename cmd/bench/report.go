package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// figure is a row of the report. Where less is better a ratio says how many times the bare client's it is.
type figure struct {
	name string
	of   func(result) float64
	show func(float64) string
}

func milliseconds(v float64) string { return fmt.Sprintf("%.1f ms", v*1000) }
func megabytes(v float64) string    { return fmt.Sprintf("%.1f MB", v/1e6) }
func plain(v float64) string        { return fmt.Sprintf("%.1f", v) }

var figures = []figure{
	{"answer, p50", func(r result) float64 { return r.p50.Seconds() }, milliseconds},
	{"answer, p99", func(r result) float64 { return r.p99.Seconds() }, milliseconds},
	{"messages/s, one chat", func(r result) float64 { return r.one }, plain},
	{"messages/s, many chats", func(r result) float64 { return r.many }, plain},
	{"answer in many chats, p99", func(r result) float64 { return r.manyP99.Seconds() }, milliseconds},
	{"CPU per message", func(r result) float64 { return r.cpu.Seconds() }, milliseconds},
	{"allocations per message", func(r result) float64 { return r.allocs }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
	{"memory, idle", func(r result) float64 { return r.idle }, megabytes},
	{"memory, after the load", func(r result) float64 { return r.loaded }, megabytes},
	{"start to login", func(r result) float64 { return r.login.Seconds() }, milliseconds},
	{"start to ready", func(r result) float64 { return r.ready.Seconds() }, milliseconds},
	{"database commands per message", func(r result) float64 { return r.commands }, plain},
}

// spread is the median of a figure over the rounds, and how far the rounds lie apart.
type spread struct{ least, median, most float64 }

func spreadOf(results []result, of func(result) float64) spread {
	var all []float64
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	middle := all[len(all)/2]
	if len(all)%2 == 0 {
		middle = (all[len(all)/2-1] + middle) / 2
	}
	return spread{all[0], middle, all[len(all)-1]}
}

// ratio is the median over the rounds of a peer's figure to the other's in the same round.
func ratio(peer, other []result, of func(result) float64) float64 {
	var all []float64
	for i := range min(len(peer), len(other)) {
		if o := of(other[i]); o > 0 {
			all = append(all, of(peer[i])/o)
		}
	}
	if len(all) == 0 {
		return 0
	}
	return quantile(all, 0.5)
}

// report prints the figures as a Markdown table: for each peer the median with the least and the most of the rounds, and the ratio to
// the bare client.
func report(out io.Writer, peers []*peer, results map[*peer][]result, l load) {
	fmt.Fprintf(out, "%d rounds; %d messages in one chat, %d in each of %d chats; %s, %d CPUs, %s\n\n",
		l.rounds, l.messages, l.each, l.chats, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	var bare *peer
	head, rule := "| |", "| --- |"
	for _, p := range peers {
		head += " " + p.name + " |"
		rule += " --- |"
		if p.name == "bare" {
			bare = p
		}
	}
	fmt.Fprintln(out, head+"\n"+rule)
	for _, f := range figures {
		row := []string{"", f.name}
		shown := false
		for _, p := range peers {
			s := spreadOf(results[p], f.of)
			if s.most == 0 {
				row = append(row, "")
				continue
			}
			shown = true
			cell := fmt.Sprintf("%s (%s to %s)", f.show(s.median), number(f.show(s.least)), number(f.show(s.most)))
			if bare != nil && p != bare {
				if r := ratio(results[p], results[bare], f.of); r > 0 {
					cell += fmt.Sprintf(", %.2f×", r)
				}
			}
			row = append(row, cell)
		}
		if shown {
			fmt.Fprintln(out, strings.TrimSpace(strings.Join(row, " | ")+" |"))
		}
	}
	fmt.Fprintln(out, "\n× is how many times the bare client's, in the same round.")
}

// number is a shown figure without its unit.
func number(shown string) string {
	n, _, _ := strings.Cut(shown, " ")
	return n
}
