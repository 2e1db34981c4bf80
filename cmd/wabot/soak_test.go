package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"wabot/internal/mongotest"
)

var soak = flag.Duration("soak", 0, "how long the soak lasts; seconds without")

const (
	// pace is how many messages a second come in while it soaks.
	pace = 5
	// settledAfter is the part of a soak after which the slopes are taken: before, caches fill.
	settledAfter = 0.4
	// steepest is how fast memory, in bytes an hour, and goroutines, in number an hour, may rise in a soak of ten minutes and more.
	steepestMemory     = 10 << 20
	steepestGoroutines = 10
	// mostKept is how many bytes the store may keep for each message, its answer and all that became of them among it, and mostBeside
	// beside: the file store has a log that grows to some megabytes before it begins anew.
	mostKept   = 4 << 10
	mostBeside = 8 << 20
)

// Five messages a second come in for as long as -soak says, with a fault each minute: each is answered once, neither memory
// nor goroutines rise, and the store keeps so much for each message and no more.
func TestSoak(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store string) {
		lasts, each := *soak, time.Minute
		if lasts == 0 {
			lasts, each = 6*time.Second, 4*time.Second
		}
		w, c, line := newControlled(t, store, "LEASE=4s", "MODEL_TIMEOUT=10s", "MODEL_IDLE_TIMEOUT=2s")
		w.do(w.pair(withPatience(t)))
		ctx, cancel := context.WithTimeout(t.Context(), 2*lasts+3*patience)
		defer cancel()

		before, err := w.keeps(ctx, line)
		w.do(err)
		people := map[string]int{"alice": 0, "bob": 0, "carol": 0, "dave": 0, "erin": 0, "frank": 0, "grace": 0, "heidi": 0, "ivan": 0, "judy": 0}
		for name := range people {
			w.phone(name)
		}
		soaking, dry := context.WithTimeout(ctx, lasts)
		defer dry()
		var g errgroup.Group
		g.Go(func() error { return w.chatter(ctx, soaking.Done(), people) })
		faults := 0
		var calm atomic.Bool
		g.Go(func() error {
			faults = spoil(soaking, w.passing(c, line), each, &calm)
			return nil
		})
		samples := w.sample(ctx, soaking.Done(), lasts, &calm)
		w.do(g.Wait())

		sent, lost, doubled, sorry := w.count(ctx, people)
		after, err := w.keeps(ctx, line)
		w.do(err)
		memory, memoryError := slope(samples, func(s sample) float64 { return s.memory })
		goroutines, goroutinesError := slope(samples, func(s sample) float64 { return s.goroutines })
		t.Logf("%v at %d messages a second, %d faults: %d sent, %d lost, %d answered twice, %d given up; the store holds %.1f MB, %.1f of them before",
			lasts, pace, faults, sent, lost, doubled, sorry, after/1e6, before/1e6)
		if grown := after - before; grown > mostBeside+mostKept*float64(sent) {
			t.Errorf("the store grew by %.0f bytes for each of %d messages, where %d and %d in all are due", grown/float64(sent), sent, mostKept, mostBeside)
		}
		if lost+doubled+sorry > 0 {
			t.Errorf("%d lost, %d answered twice, %d given up", lost, doubled, sorry)
		}
		if len(samples) < 3 {
			t.Errorf("only %d samples", len(samples))
		}
		if lasts >= 10*time.Minute { // less says nothing of an hour
			t.Logf("memory rises by %.1f MB an hour (standard error %.1f), goroutines by %.1f (%.1f), over %d samples",
				memory/1e6, memoryError/1e6, goroutines, goroutinesError, len(samples))
			if memory-2*memoryError > steepestMemory || goroutines-2*goroutinesError > steepestGoroutines {
				t.Errorf("memory may rise by %d MB an hour, goroutines by %d", steepestMemory/1_000_000, steepestGoroutines)
			}
		}
		w.do(w.stop())
		for _, f := range w.whatsapp.CounterFaults() {
			t.Error(f)
		}
		if n := strings.Count(w.bot.output.String(), "Link wabot to"); n != 1 {
			t.Errorf("asked to be paired %d times", n)
		}
	})
}

// chatter lets the people write in turn, and counts what they have written, until done is closed.
func (w *mongoWorld) chatter(ctx context.Context, done <-chan struct{}, people map[string]int) error {
	tick := time.NewTicker(time.Second / pace)
	defer tick.Stop()
	for {
		for name := range people {
			select {
			case <-done:
				return nil
			case <-tick.C:
			}
			people[name]++
			if _, err := w.phone(name).Say(ctx, w.owner.LID(), fmt.Sprintf("!ai thing %d.", people[name])); err != nil {
				return fmt.Errorf("%s says: %w", name, err)
			}
		}
	}
}

// passing are the troubles that no message is given up for.
func (w *mongoWorld) passing(c *control, line *mongotest.Line) (all []trouble) {
	for _, tr := range troubles(w, c, line) {
		if !strings.HasPrefix(tr.name, "the model") || tr.name == "the model is slow" {
			all = append(all, tr)
		}
	}
	return all
}

// spoil lets one trouble come and go in each interval, and counts them. It is calm when there is none, and what had queued up behind the
// last one has had time to be answered.
func spoil(ctx context.Context, all []trouble, each time.Duration, calm *atomic.Bool) (n int) {
	random := rand.New(rand.NewPCG(*campaignSeed, 2))
	for {
		tr := all[random.IntN(len(all))]
		select {
		case <-ctx.Done():
			return n
		case <-time.After(each / 4):
		}
		calm.Store(true)
		select {
		case <-ctx.Done():
			return n
		case <-time.After(each / 2):
		}
		calm.Store(false)
		tr.begin()
		n++
		select {
		case <-ctx.Done():
		case <-time.After(each / 4):
		}
		tr.end()
	}
}

// sample is how the running wabot was at a moment.
type sample struct {
	at                 float64 // in hours
	memory, goroutines float64
}

// sample looks at wabot a hundred times while it lasts, and keeps what it saw once it has settled, while it was calm: a trouble has
// many wait, and one near the end would look like a rise. Where that was too seldom for a slope it goes on after the end.
func (w *mongoWorld) sample(ctx context.Context, done <-chan struct{}, lasts time.Duration, calm *atomic.Bool) (all []sample) {
	begun := time.Now()
	for over := false; !over || len(all) < 3; {
		select {
		case <-done:
			over = true
		default:
		}
		select {
		case <-ctx.Done():
			return all
		case <-time.After(lasts / 100):
		}
		n, err := w.goroutines(ctx)
		if err != nil || !over && (!calm.Load() || time.Since(begun) < time.Duration(settledAfter*float64(lasts))) {
			continue
		}
		all = append(all, sample{at: time.Since(begun).Hours(), memory: float64(w.memory()), goroutines: n})
	}
	return all
}

// goroutines is how many goroutines the running wabot says that it has.
func (w *mongoWorld) goroutines(ctx context.Context) (float64, error) {
	base, err := w.page(ctx)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(base, "/")+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("the metrics do not tell the number of goroutines")
}

// slope is how fast y rises in an hour, by least squares, and its standard error.
func slope(all []sample, y func(sample) float64) (rises, standardError float64) {
	n := float64(len(all))
	var at, mean float64
	for _, s := range all {
		at, mean = at+s.at/n, mean+y(s)/n
	}
	var sxx, sxy, rest float64
	for _, s := range all {
		sxx, sxy = sxx+(s.at-at)*(s.at-at), sxy+(s.at-at)*(y(s)-mean)
	}
	if n < 3 || sxx == 0 {
		return 0, math.Inf(1)
	}
	rises = sxy / sxx
	for _, s := range all {
		d := y(s) - mean - rises*(s.at-at)
		rest += d * d
	}
	return rises, math.Sqrt(rest / (n - 2) / sxx)
}

func TestSlope(t *testing.T) {
	t.Parallel()
	all := []sample{{at: 0, memory: 5}, {at: 1, memory: 8}, {at: 2, memory: 9}, {at: 3, memory: 12}}
	got, off := slope(all, func(s sample) float64 { return s.memory })
	if math.Abs(got-2.2) > 1e-9 || math.Abs(off-math.Sqrt(0.08)) > 1e-9 {
		t.Errorf("the slope is %v with an error of %v, want 2.2 and 0.2828", got, off)
	}
}

// count waits until all is answered, or nothing more is for as long as a step may take, and counts. What has queued up behind a fault takes
// its time on the stand-in for MongoDB.
func (w *mongoWorld) count(ctx context.Context, people map[string]int) (sent, lost, doubled, sorry int) {
	for name, n := range people {
		p := w.phone(name)
		// How often each was answered. An answer may be to several, what was said while the bot could not hear, and so may
		// an apology: what is not answered when it comes counts as 0 times.
		times := func() map[string]int {
			var said []string
			times := map[string]int{}
			for _, m := range p.Messages(w.owner.LID()) {
				var things []string
				for i, part := range strings.Split(m.Text, "thing ") {
					if number, _, ok := strings.Cut(part, "."); ok && i > 0 {
						things = append(things, number)
					}
				}
				if m.FromMe {
					said = append(said, things...)
					continue
				}
				if strings.HasPrefix(m.Text, "Sorry") {
					things = nil
					for _, number := range said {
						times[number] += 0
					}
				}
				for _, number := range things {
					times[number]++
				}
			}
			return times
		}
		answered := times()
		for since := time.Now(); len(answered) < n && time.Since(since) < patience && ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
			before := len(answered)
			if answered = times(); len(answered) > before {
				since = time.Now()
			}
		}
		sent += n
		for i := 1; i <= n; i++ {
			switch times, told := answered[strconv.Itoa(i)]; {
			case !told:
				lost++
			case times == 0:
				sorry++
			case times > 1:
				doubled++
			}
		}
	}
	return sent, lost, doubled, sorry
}

// keeps is how many bytes the files of the session take, or, where the bot has a database at the end of a line, the documents in there.
func (w *mongoWorld) keeps(ctx context.Context, line *mongotest.Line) (n float64, err error) {
	if line == nil {
		err := filepath.WalkDir(filepath.Join(w.dir, "session"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				if info, err := d.Info(); err == nil {
					n += float64(info.Size())
				}
			}
			return nil
		})
		return n, err
	}
	database := databaseAt(w.t, line.URL)
	names, err := database.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return 0, fmt.Errorf("list the collections: %w", err)
	}
	for _, name := range names {
		all, err := database.Collection(name).Find(ctx, bson.D{})
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		for all.Next(ctx) {
			n += float64(len(all.Current))
		}
		if err := errors.Join(all.Err(), all.Close(ctx)); err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return n, nil
}
