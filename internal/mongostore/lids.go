package mongostore

import (
	"context"
	"fmt"
	"sync"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// lids is the map between phone numbers and LIDs, one for all devices. A user has one of each. What was looked
// up is kept in memory, also that there was nothing.
type lids struct {
	s *Store

	mu         sync.Mutex
	generation int64
	toLID      map[string]string // by phone number; "" for none
	toPN       map[string]string // by LID
}

var _ store.LIDStore = (*lids)(nil)

// lidRow is a document of "lids".
type lidRow struct {
	LID string `bson:"_id"`
	PN  string `bson:"pn"`
}

func newLIDs(s *Store) *lids {
	return &lids{s: s, toLID: make(map[string]string), toPN: make(map[string]string)}
}

// lock locks what is known, forgotten if others may have written.
func (l *lids) lock() {
	l.mu.Lock()
	if g := l.s.generation.Load(); g != l.generation {
		l.generation = g
		clear(l.toLID)
		clear(l.toPN)
	}
}

// look fills the map by one field, for users that it does not know yet.
func (l *lids) look(ctx context.Context, field string, users []string) error {
	if len(users) == 0 {
		return nil
	}
	filter := bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: users}}}}
	if len(users) == 1 {
		filter = bson.D{{Key: field, Value: users[0]}}
	}
	rows, err := find[lidRow](ctx, l.s, "look up LIDs", l.s.lidMap, filter)
	for _, row := range rows {
		l.toLID[row.PN], l.toPN[row.LID] = row.LID, row.PN
	}
	return err
}

func (l *lids) get(ctx context.Context, source types.JID, server, field string, known map[string]string) (types.JID, error) {
	l.lock()
	defer l.mu.Unlock()
	if _, ok := known[source.User]; !ok {
		if err := l.look(ctx, field, []string{source.User}); err != nil {
			return types.JID{}, err
		}
		known[source.User] += "" // nothing is an answer too
	}
	user := known[source.User]
	if user == "" {
		return types.JID{}, nil
	}
	return types.JID{User: user, Device: source.Device, Server: server}, nil
}

func (l *lids) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	if pn.Server != types.DefaultUserServer {
		return types.JID{}, fmt.Errorf("look up a LID: the address is of %s, not a phone number", pn.Server)
	}
	return l.get(ctx, pn, types.HiddenUserServer, "pn", l.toLID)
}

func (l *lids) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	if lid.Server != types.HiddenUserServer {
		return types.JID{}, fmt.Errorf("look up a phone number: the address is of %s, not a LID", lid.Server)
	}
	return l.get(ctx, lid, types.DefaultUserServer, "_id", l.toPN)
}

func (l *lids) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	if len(pns) == 0 {
		return nil, nil
	}
	l.lock()
	defer l.mu.Unlock()
	var missing []string
	for _, pn := range pns {
		if pn.Server == types.DefaultUserServer && l.toLID[pn.User] == "" {
			missing = append(missing, pn.User)
		}
	}
	if err := l.look(ctx, "pn", missing); err != nil {
		return nil, err
	}
	out := make(map[types.JID]types.JID, len(pns))
	for _, pn := range pns {
		if user := l.toLID[pn.User]; user != "" && pn.Server == types.DefaultUserServer {
			out[pn] = types.JID{User: user, Device: pn.Device, Server: types.HiddenUserServer}
		}
	}
	return out, nil
}

func (l *lids) PutLIDMapping(ctx context.Context, lid, pn types.JID) error {
	if !isMapping(lid, pn) {
		return fmt.Errorf("write a LID: addresses of %s and %s given", lid.Server, pn.Server)
	}
	return l.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: lid, PN: pn}})
}

func isMapping(lid, pn types.JID) bool {
	return lid.Server == types.HiddenUserServer && pn.Server == types.DefaultUserServer
}

// PutManyLIDMappings stores what is new of the mappings, and skips what is none.
func (l *lids) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	l.lock()
	defer l.mu.Unlock()
	unknown := func() (out []lidRow) {
		for _, m := range mappings {
			if isMapping(m.LID, m.PN) && l.toLID[m.PN.User] != m.LID.User {
				out = append(out, lidRow{LID: m.LID.User, PN: m.PN.User})
			}
		}
		return out
	}
	rows := unknown()
	if len(rows) == 0 {
		return nil
	}
	// After a start the memory is empty and the database mostly knows: a read is cheaper.
	var users []string
	for _, row := range rows {
		if _, ok := l.toLID[row.PN]; !ok {
			users = append(users, row.PN)
		}
	}
	if err := l.look(ctx, "pn", users); err != nil {
		return err
	}
	if rows = unknown(); len(rows) == 0 {
		return nil
	}
	var models []mongo.WriteModel
	for _, row := range rows {
		models = append(models,
			mongo.NewDeleteOneModel().SetFilter(bson.D{{Key: "pn", Value: row.PN}, {Key: "_id", Value: bson.D{{Key: "$ne", Value: row.LID}}}}),
			mongo.NewReplaceOneModel().SetFilter(byID(row.LID)).SetReplacement(row).SetUpsert(true))
	}
	err := l.s.write(ctx, "write LIDs", func(ctx context.Context) error {
		_, err := l.s.lidMap.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
		if mongo.IsDuplicateKeyError(err) {
			return errAgain
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if old := l.toLID[row.PN]; old != "" && old != row.LID && l.toPN[old] == row.PN {
			delete(l.toPN, old)
		}
		if old := l.toPN[row.LID]; old != "" && old != row.PN && l.toLID[old] == row.LID {
			delete(l.toLID, old)
		}
		l.toLID[row.PN], l.toPN[row.LID] = row.LID, row.PN
	}
	return nil
}
