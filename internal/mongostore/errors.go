package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/inbox"
)

// What Open may fail with.
var (
	// ErrOutage says that the database could not be reached, or could not do its work for now.
	ErrOutage = errors.New("the database cannot be reached")
	// ErrURL says that the connection string cannot be read.
	ErrURL = errors.New("MONGO_URL is not a MongoDB connection string: write mongodb://user:password@host:27017/database, and special characters in the password as %XX")
	// ErrUnacknowledged says that by the connection string no write is to be acknowledged.
	ErrUnacknowledged = errors.New("MONGO_URL has w=0, by which no write is acknowledged, so that messages would be lost and answered twice: take it out, or write w=majority")
	// ErrLogin says that the database refuses the user name or the password.
	ErrLogin = errors.New("the database refuses the user name or password in MONGO_URL; a user made in another database than the one in the URL needs ?authSource=admin")
	// ErrRights says that the user may not do what is needed.
	ErrRights = errors.New("the database user may not read and write the database; give it the role readWrite on it")
	// ErrServer says that the server is too old or too new for this program.
	ErrServer = errors.New("the database server's version is not supported; use MongoDB 5.0 or newer")
	// ErrNewer says that a newer program has changed the database.
	ErrNewer = errors.New("the database was written by a newer version of this program; use that version")
)

var (
	errConflict  = errors.New("another write came between")
	errDuplicate = errors.New("the event is in the buffer already")
	errNoDevice  = errors.New("the device is not in the database")
	errLength    = fmt.Errorf("a stored key has the wrong length: %w", sqlstore.ErrInvalidLength) // which no guard takes for an outage
	errAgain     = errors.New("try again at once")
	// errPassive ends the work of the inbox, too: who does not drive the device has no chat leased.
	errPassive = fmt.Errorf("this process has lost the lease on the device and must not write: %w", inbox.ErrLeaseLost)
)

// outageError is an outage: ErrOutage for us, and context.Canceled for whatsmeow, which then leaves
// a message unacknowledged instead of asking its sender for another.
type outageError struct{ err error }

func (e *outageError) Error() string { return ErrOutage.Error() + ": " + e.err.Error() }
func (e *outageError) Unwrap() error { return e.err }
func (e *outageError) Is(target error) bool {
	return target == ErrOutage || target == context.Canceled
}

func wrapOutage(what string, err error) error {
	if isOutage(err) {
		err = &outageError{err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// outageCodes are the server's errors that pass, or that an operator must end, while what was
// asked was right: not primary, shutting down, no quorum, interrupted, out of time or resources, a cursor gone with a restart, disk
// full, and a user or password that was changed under a running program. They are numbered in src/mongo/base/error_codes.yml of MongoDB.
var outageCodes = []int{
	6, 7, 13, 18, 24, 43, 46, 50, 64, 89, 91, 100, 112, 133, 134, 175, 189, 202, 216, 237, 262, 279, 317, 355, 358, 365, 371, 384, 391, 402, 406, 407,
	433, 449, 462, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031,
}

func isOutage(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrOutage) || errors.Is(err, errPassive) || mongo.IsNetworkError(err) || mongo.IsTimeout(err) || errors.Is(err, mongo.ErrClientDisconnected) {
		return true
	}
	var labeled mongo.LabeledError
	if errors.As(err, &labeled) && (labeled.HasErrorLabel("RetryableWriteError") || labeled.HasErrorLabel("TransientTransactionError") || labeled.HasErrorLabel("NetworkError")) {
		return true
	}
	if server := mongo.ServerError(nil); errors.As(err, &server) {
		return slices.ContainsFunc(server.ErrorCodes(), func(code int) bool { return slices.Contains(outageCodes, code) })
	}
	// The driver's selection and pool errors have no exported type in its stable packages.
	return strings.Contains(err.Error(), "server selection error") || strings.Contains(err.Error(), "connection pool") || isCut(err)
}

// isCut tells whether a connection failed. While it is made the driver gives no label to say so.
func isCut(err error) bool {
	var failed net.Error
	return errors.As(err, &failed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unauthorized is MongoDB's code for a right that is missing.
const unauthorized = 13

func hasCode(err error, code int) bool {
	server := mongo.ServerError(nil)
	return errors.As(err, &server) && server.HasErrorCode(code)
}

// operatorError says in an operator's words why the database cannot be used.
func operatorError(err error) error {
	text := err.Error()
	switch {
	// A login is canceled where another connection of the driver's was cut.
	case hasCode(err, 18) || strings.Contains(text, "(AuthenticationFailed)") || strings.Contains(text, "auth error") && !isCut(err) && !errors.Is(err, context.Canceled):
		return ErrLogin
	case hasCode(err, unauthorized):
		return ErrRights
	case strings.Contains(text, "wire version"):
		return fmt.Errorf("%w (%s)", ErrServer, text)
	case errors.Is(err, ErrOutage):
		return err
	case isOutage(err):
		return &outageError{err}
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// try calls do, which must be safe to repeat, until it succeeds, fails for another reason than
// an outage, or the store's patience ends.
func (s *Store) try(ctx context.Context, what string, do func(context.Context) error) error {
	end := time.Now().Add(s.patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		step, cancel := s.bound(ctx)
		err := do(step)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case !isOutage(err) && !errors.Is(err, errAgain), errors.Is(err, errPassive), s.opening && hasCode(err, unauthorized), time.Now().Add(pause).After(end):
			return wrapOutage(what, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// find reads the documents that match: all of them, or none and an error.
func find[T any](ctx context.Context, s *Store, what string, c *mongo.Collection, filter bson.D, opts ...options.Lister[options.FindOptions]) (all []T, err error) {
	err = s.try(ctx, what, func(ctx context.Context) error {
		cursor, err := c.Find(ctx, filter, opts...)
		if err != nil {
			return err
		}
		return cursor.All(ctx, &all)
	})
	return all, err
}

// findIDs reads just the _ids of the documents that match.
func (s *Store) findIDs(ctx context.Context, what string, c *mongo.Collection, filter bson.D, opts ...options.Lister[options.FindOptions]) (ids []string, err error) {
	type row struct {
		ID string `bson:"_id"`
	}
	rows, err := find[row](ctx, s, what, c, filter, append(opts, options.Find().SetProjection(bson.D{field("_id", 1)}))...)
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return ids, err
}

// bound puts back the bound on a command, which the driver leaves to ctx where that has a deadline, however far.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

// write is try for what changes the database.
func (s *Store) write(ctx context.Context, what string, do func(context.Context) error) error {
	return s.try(ctx, what, func(ctx context.Context) error {
		if s.passive.Load() {
			return errPassive
		}
		return do(ctx)
	})
}
