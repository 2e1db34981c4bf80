// Command bare is the peer that cmd/bench holds wabot against: the least program that answers on whatsmeow, an echo on
// upstream's sqlstore. It asks for a pairing code for the account named by PAIR_PHONE and prints it, tells where its
// metrics are, and answers each text with it. With DURABLE=True it promises for the session what wabot promises: a commit
// is on the disk, and a message is acknowledged after it was handled. It keeps no message: what it was to answer
// when it is killed is lost, and its sends and decryptions may undo each other's steps of the ratchet.
package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite" // the driver
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

// database opens the database as whatsmeow's own example does, or with wabot's settings.
func database(path string, durable bool) (*sql.DB, error) {
	query := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	if durable {
		query["_pragma"] = append(query["_pragma"], "journal_mode(wal)", "synchronous(2)", "fullfsync(1)", "temp_store(2)")
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err == nil && durable {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

func run(ctx context.Context) error {
	durable := os.Getenv("DURABLE") == "True"
	key, err := hex.DecodeString(os.Getenv("WHATSAPP_NOISE_ROOT_KEY"))
	if err != nil || len(key) != len(whatsmeow.WACertPubKey) {
		return fmt.Errorf("WHATSAPP_NOISE_ROOT_KEY is not the key of a simulated WhatsApp (%w)", err)
	}
	whatsmeow.WACertPubKey = [32]byte(key)
	db, err := database(filepath.Join(os.Getenv("SESSION_DIR"), "bare.db"), durable)
	if err != nil {
		return err
	}
	defer db.Close()
	container := sqlstore.NewWithDB(db, "sqlite", waLog.Noop)
	if err := container.Upgrade(ctx); err != nil {
		return err
	}
	device, err := container.GetFirstDevice(ctx)
	if err != nil {
		return err
	}
	wm := whatsmeow.NewClient(device, waLog.Noop)
	if durable {
		wm.SynchronousAck, wm.EnableDecryptedEventBuffer, wm.UseRetryMessageStore = true, true, true
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer metrics.Close()
	go http.Serve(metrics, promhttp.Handler()) // it ends with the listener
	fmt.Printf("metrics url=http://%s/\n", metrics.Addr())

	codes := make(chan struct{}, 1)
	wm.AddEventHandler(func(evt any) {
		switch evt := evt.(type) {
		case *events.QR:
			codes <- struct{}{}
		case *events.Message:
			if evt.Info.IsFromMe {
				return
			}
			text := evt.Message.GetConversation() + evt.Message.GetExtendedTextMessage().GetText()
			go func() {
				answer := &waE2E.Message{Conversation: proto.String("You said: " + text)}
				if _, err := wm.SendMessage(ctx, evt.Info.Chat.ToNonAD(), answer); err != nil {
					fmt.Fprintln(os.Stderr, "bare: send:", err)
				}
			}()
		}
	})
	paired := device.ID != nil
	if err := wm.Connect(); err != nil {
		return err
	}
	defer wm.Disconnect()
	if !paired {
		<-codes
		code, err := wm.PairPhone(ctx, os.Getenv("PAIR_PHONE"), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
		if err != nil {
			return err
		}
		fmt.Println("code", code)
	}
	<-ctx.Done()
	return nil
}
