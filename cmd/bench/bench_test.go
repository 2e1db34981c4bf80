package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wabot/internal/sqlitestore"
)

// The report gives medians, how far the rounds lie apart, and ratios to the bare client in the same round.
func TestReport(t *testing.T) {
	t.Parallel()
	bare, files := &peer{name: "bare"}, &peer{name: "files"}
	ms := func(n ...int) (all []result) {
		for _, v := range n {
			all = append(all, result{p50: time.Duration(v) * time.Millisecond})
		}
		return all
	}
	var out strings.Builder
	report(&out, []*peer{bare, files}, map[*peer][]result{bare: ms(10, 40, 20), files: ms(15, 40, 40)}, load{rounds: 3})
	const want = "| answer, p50 | 20.0 ms (10.0 to 40.0) | 40.0 ms (15.0 to 40.0), 1.50× |\n"
	if !strings.Contains(out.String(), want) {
		t.Errorf("no line %q in:\n%s", want, out.String())
	}
	if strings.Contains(out.String(), "database commands") {
		t.Errorf("a figure that no peer has is shown:\n%s", out.String())
	}
}

// Bounds are off without their flags; each that is passed is told of, in the words of the report; one of a peer that is not measured is
// bad usage.
func TestBounds(t *testing.T) {
	t.Parallel()
	bare, files := &peer{name: "bare"}, &peer{name: "files"}
	results := map[*peer][]result{
		bare:  {{p50: 10 * time.Millisecond, one: 100}, {p50: 40 * time.Millisecond, one: 100}},
		files: {{p50: 15 * time.Millisecond, one: 70, ready: time.Second, idle: 41e6}, {p50: 60 * time.Millisecond, one: 70, ready: time.Second, idle: 41e6}},
	}
	for _, row := range []struct {
		args string
		want []string
	}{
		{"", nil},
		{"-most-p50=1.6 -least-rate=0.6 -most-idle=42 -most-ready=1.1", nil},
		{"-most-p50=1.4", []string{"answer, p50 of files is 1.50× that of bare, where -most-p50 allows 1.40× that of bare at most"}},
		{"-least-rate=0.8 -most-idle=40 -most-ready=0.5", []string{
			"messages/s, one chat of files is 0.70× that of bare, where -least-rate allows 0.80× that of bare at least",
			"memory, idle of files is 41.0 MB, where -most-idle allows 40.0 MB at most",
			"start to ready of files is 1000.0 ms, where -most-ready allows 500.0 ms at most",
		}},
		{"-most-mongo-p50=2", []string{"-most-mongo-p50 is a bound of mongo, which is not measured"}},
		{"-most-growth=1.1", []string{"-most-growth is a bound of large, which is not measured"}},
	} {
		flags := flag.NewFlagSet("bench", flag.ContinueOnError)
		bounds := newBounds(flags)
		if err := flags.Parse(strings.Fields(row.args)); err != nil {
			t.Fatal(err)
		}
		err := bounds.fit([]*peer{bare, files})
		if err == nil {
			err = bounds.check(results)
		}
		if got, want := fmt.Sprint(err), strings.Join(row.want, "\n"); got != want && (err != nil || want != "") {
			t.Errorf("%q: %s\nwant %s", row.args, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	all := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(all, q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
}

// What the growth is measured on is a history as the store itself has it.
func TestFill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := sqlitestore.Open(ctx, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fill(ctx, filepath.Join(dir, sqlitestore.File), few); err != nil {
		t.Fatal(err)
	}
	if s, err = sqlitestore.Open(ctx, dir, log); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	history, err := s.History(ctx, "000000000000003@lid", 2*perChat)
	if err != nil {
		t.Fatal(err)
	}
	if len(history) != perChat {
		t.Fatalf("a chat has %d turns, want %d", len(history), perChat)
	}
	for _, x := range history {
		if len(x.Messages) != 1 || x.Messages[0].Text == "" || x.Messages[0].Sender != "000000000000003@lid" || x.Reply == nil || !x.Reply.Parts[0].Sent {
			t.Fatalf("a turn is not whole: %+v", x)
		}
	}
	if n, err := s.Depth(ctx); n != 0 || err != nil {
		t.Errorf("%d messages wait (%v)", n, err)
	}
}

// Bad usage is said before anything is built.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"now"}, {"-rounds", "0"}, {"-what"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
