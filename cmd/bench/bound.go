package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
)

// bound is what the median of a figure of a peer may come to, where its flag gives it a limit.
type bound struct {
	flag, about  string
	peer, figure string
	to           string  // the peer that the limit is a multiple of; empty where it is the figure itself
	unit         float64 // of the limit
	least        bool    // not most
	limit        float64
}

// bounds are all that can be given.
type bounds []*bound

// newBounds makes the flags of the bounds.
func newBounds(flags *flag.FlagSet) bounds {
	all := bounds{
		{flag: "most-p50", about: "bound of wabot's p50 on files, as a multiple of the bare client's", peer: "files", figure: "answer, p50", to: "bare"},
		{flag: "least-rate", about: "bound of wabot's messages/s in one chat on files, as a multiple of the bare client's", peer: "files", figure: "messages/s, one chat", to: "bare", least: true},
		{flag: "most-mongo-p50", about: "bound of wabot's p50 on MongoDB, as a multiple of the bare client's", peer: "mongo", figure: "answer, p50", to: "bare"},
		{flag: "most-idle", about: "bound of wabot's idle memory on files, in MB", peer: "files", figure: "memory, idle", unit: 1e6},
		{flag: "most-ready", about: "bound of the time from wabot's start on files until it is ready, in seconds", peer: "files", figure: "start to ready", unit: 1},
		{flag: "most-growth", about: "with -growth: bound of p50 with many messages, as a multiple of that with few", peer: "large", figure: "answer, p50", to: "small"},
		{flag: "most-growth-cpu", about: "with -growth: the same of the CPU per message", peer: "large", figure: "CPU per message", to: "small"},
	}
	for _, b := range all {
		flags.Float64Var(&b.limit, b.flag, 0, b.about+"; 0 for none")
	}
	return all
}

// fit is an error where a bound is of a peer that is not measured.
func (all bounds) fit(peers []*peer) error {
	for _, b := range all {
		for _, name := range []string{b.peer, b.to} {
			if b.limit != 0 && name != "" && !slices.ContainsFunc(peers, func(p *peer) bool { return p.name == name }) {
				return fmt.Errorf("-%s is a bound of %s, which is not measured", b.flag, name)
			}
		}
	}
	return nil
}

// check is an error that tells of all bounds that are passed.
func (all bounds) check(results map[*peer][]result) error {
	of := map[string][]result{}
	for p, r := range results {
		of[p.name] = r
	}
	var errs []error
	for _, b := range all {
		if b.limit == 0 {
			continue
		}
		f := figures[slices.IndexFunc(figures, func(f figure) bool { return f.name == b.figure })]
		found, limit, show := ratio(of[b.peer], of[b.to], f.of), b.limit, func(v float64) string { return fmt.Sprintf("%.2f× that of %s", v, b.to) }
		if b.to == "" {
			found, limit, show = spreadOf(of[b.peer], f.of).median, b.limit*b.unit, f.show
		}
		word := "most"
		if b.least {
			word = "least"
		}
		if b.least && found < limit || !b.least && found > limit {
			errs = append(errs, fmt.Errorf("%s of %s is %s, where -%s allows %s at %s", b.figure, b.peer, show(found), b.flag, show(limit), word))
		}
	}
	return errors.Join(errs...)
}
