package mongostore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// query is what a command asks of a collection.
type query struct {
	collection string
	filter     bson.Raw
	sort       []string
	command    bson.D // as explain takes it
}

// queries are those that a store has sent, one of each shape. All that the tests of this package send are looked at: each must be
// answered by an index, which gives the order too, so that it costs no more the more is kept.
type queries struct {
	mu  sync.Mutex
	all map[string]query
}

func (p *queries) monitor(o *Options) {
	p.all = make(map[string]query)
	o.monitor = &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, q := range queriesOf(e.CommandName, slices.Clone(e.Command)) {
			p.all[fmt.Sprint(e.CommandName, " ", q.collection, " ", shape(q.filter), " ", q.sort)] = q
		}
	}}
}

// queriesOf are the queries of a command. One that looks for no documents has none.
func queriesOf(name string, command bson.Raw) (all []query) {
	collection, _ := command.Lookup(name).StringValueOK()
	list := func(field string) []bson.RawValue {
		values, _ := command.Lookup(field).Array().Values()
		return values
	}
	add := func(filter bson.RawValue, rest ...bson.E) {
		raw, _ := filter.DocumentOK()
		rest = slices.DeleteFunc(rest, func(e bson.E) bool { v, ok := e.Value.(bson.RawValue); return ok && v.IsZero() })
		all = append(all, query{collection, raw, keysOf(command.Lookup("sort")), append(bson.D{field(name, collection)}, rest...)})
	}
	switch name {
	case "find":
		add(command.Lookup("filter"), field("filter", command.Lookup("filter")), field("sort", command.Lookup("sort")), field("limit", command.Lookup("limit")))
	case "findAndModify":
		add(command.Lookup("query"), field("query", command.Lookup("query")), field("update", command.Lookup("update")))
	case "aggregate":
		add(list("pipeline")[0].Document().Lookup("$match"), field("pipeline", command.Lookup("pipeline")), field("cursor", bson.D{}))
	case "update", "delete":
		for _, one := range list(name + "s") {
			add(one.Document().Lookup("q"), field(name+"s", bson.A{one}))
		}
	}
	return all
}

func keysOf(v bson.RawValue) (keys []string) {
	d, _ := v.DocumentOK()
	elements, _ := d.Elements()
	for _, e := range elements {
		keys = append(keys, e.Key())
	}
	return keys
}

// shape is a filter without its values.
func shape(filter bson.Raw) string {
	elements, _ := filter.Elements()
	var fields []string
	for _, e := range elements {
		fields = append(fields, e.Key()+strings.Join(keysOf(e.Value()), ""))
	}
	return "{" + strings.Join(fields, " ") + "}"
}

// TestPlans sends what no other test here does.
func TestPlans(t *testing.T) {
	t.Parallel()
	s := open(t, mongotest.New(t))
	storetest.Pair(t, s.Devices(), "100")
	_, err := s.PreKeys(t.Context())
	_, err2 := s.Problems(t.Context())
	if err := errors.Join(err, err2, s.DeleteOrphans(t.Context()), s.Clear(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// planned are the shapes that have been looked at.
var planned sync.Map

// check fails the test where a query is not answered by an index: as they are listed, and as the server plans it, where it tells.
func (p *queries) check(t testing.TB, s *Store) {
	t.Helper()
	p.mu.Lock()
	all := maps.Clone(p.all)
	p.mu.Unlock()
	for name, q := range all {
		if _, done := planned.LoadOrStore(name, true); done {
			continue
		}
		if !slices.ContainsFunc(s.indexes(), func(i index) bool { return i.collection.Name() == q.collection && serves(i.keys, q) }) && !serves([]string{"_id"}, q) {
			t.Errorf("no index serves %s", name)
		}
		var plan bson.Raw
		err := s.db.RunCommand(context.Background(), bson.D{field("explain", q.command), field("verbosity", "queryPlanner")}).Decode(&plan)
		if isOutage(err) {
			return // what this test was about
		}
		if err != nil {
			t.Errorf("explain %s: %v", name, err)
		}
		for _, stage := range stages(plan) {
			if stage == "SORT" || stage == "COLLSCAN" && shape(q.filter) != "{}" {
				t.Errorf("%s is answered by a %s:\n%s", name, stage, plan)
			}
		}
	}
}

// serves tells whether an index with the keys finds what is asked for, in its order.
func serves(keys []string, q query) bool {
	var fields, equal []string
	elements, _ := q.filter.Elements()
	for _, e := range elements {
		fields = append(fields, e.Key())
		if e.Value().Type != bson.TypeEmbeddedDocument {
			equal = append(equal, e.Key())
		}
	}
	if len(fields) > 0 && !slices.Contains(fields, keys[0]) {
		return false
	}
	for i := 0; ; i++ {
		if i+len(q.sort) > len(keys) {
			return false
		}
		if slices.Equal(keys[i:i+len(q.sort)], q.sort) {
			return true
		}
		if !slices.Contains(equal, keys[i]) {
			return false
		}
	}
}

// stages are those of the plan that is chosen, of a server that tells its plans as MongoDB does.
func stages(plan bson.Raw) (all []string) {
	elements, _ := plan.Elements()
	for _, e := range elements {
		inner, ok := e.Value().DocumentOK()
		if list, is := e.Value().ArrayOK(); is {
			inner, ok = bson.Raw(list), true
		}
		if name, is := e.Value().StringValueOK(); is && e.Key() == "stage" {
			all = append(all, name)
		}
		if ok && e.Key() != "rejectedPlans" {
			all = append(all, stages(inner)...)
		}
	}
	return all
}
