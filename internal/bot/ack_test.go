package bot

import (
	"errors"
	"testing"
)

func TestAck(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	b.Ack = "👀"
	w.answers(b, from("!ai hi"))
	w.check("read 1", `react to ID1 with "👀"`, "typing", "history of "+aliceLID, "complete", "save 1 parts, 0 sent", "typed",
		`send OUT1 "The *answer*"`, `react to ID1 with ""`)

	// A turn that fails keeps the reaction until it is given up, and then has another.
	w, b = newWorld(t)
	b.Ack = "👀"
	boom := errors.New("boom")
	w.fail["history of "+aliceLID] = boom
	if err := b.Answer(t.Context(), turn(from("!ai hi"))); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	w.did = nil
	if err := b.GiveUp(t.Context(), turn(from("!ai hi")), boom); err != nil {
		t.Fatal(err)
	}
	if last := w.did[len(w.did)-1]; last != `react to ID1 with "⚠️"` {
		t.Errorf("last did %s", last)
	}

	// Nothing is reacted to what was taken back before.
	w, b = newWorld(t)
	b.Ack = "👀"
	w.answers(b, from("!ai hi", id("A")), from("", revoke("A")))
	w.check("amend 1", "amend 1")
}
