package llmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// chat answers a chat request, streamed or whole, and with the fault that concerns its text.
func (s *Server) chat(o *reply, req Request) {
	answer := Echo
	if s.Answer != nil {
		answer = s.Answer
	}
	text := answer(req)
	if o.fault.Kind == Empty {
		text = ""
	}
	pieces := split(text)
	finish := "stop"
	if req.MaxTokens > 0 && len(pieces) > req.MaxTokens {
		pieces, finish = pieces[:req.MaxTokens], "length"
	}
	after := min(o.fault.After, len(pieces))
	switch o.fault.Kind {
	case FilterStream:
		pieces, finish = pieces[:after], "content_filter"
	case Length:
		pieces, finish = pieces[:after], "length"
	}
	usage := map[string]int{"prompt_tokens": 0, "completion_tokens": len(pieces)}
	for _, m := range req.Messages {
		usage["prompt_tokens"] += len(split(m.Text))
	}
	if s.Tokens != nil {
		usage["prompt_tokens"] = s.Tokens(req)
	}
	usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]

	if req.Stream {
		o.stream(req, pieces, after, finish, usage)
		return
	}
	switch o.fault.Kind {
	case HangStream:
		<-o.ctx.Done()
		panic(http.ErrAbortHandler)
	case CutStream, EndStream, StreamError:
		panic(http.ErrAbortHandler)
	case Slow:
		for range pieces {
			if !o.wait(o.fault.Delay) {
				panic(http.ErrAbortHandler)
			}
		}
	}
	o.json(http.StatusOK, map[string]any{
		"id": "chatcmpl-test", "object": "chat.completion", "model": req.Model, "usage": usage,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": finish,
			"message": map[string]any{"role": "assistant", "content": strings.Join(pieces, "")},
		}},
	})
}

// stream sends an answer as server-sent events. The stream faults strike before piece number after.
func (o *reply) stream(req Request, pieces []string, after int, finish string, usage map[string]int) {
	o.w.Header().Set("Content-Type", "text/event-stream")
	o.w.Header().Set("Cache-Control", "no-cache")
	chunk := func(delta map[string]any, finish any) {
		o.event(map[string]any{
			"id": "chatcmpl-test", "object": "chat.completion.chunk", "model": req.Model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		})
	}
	chunk(map[string]any{"role": "assistant", "content": ""}, nil)
	for i := 0; ; i++ {
		if i == after {
			switch o.fault.Kind {
			case HangStream:
				<-o.ctx.Done()
				panic(http.ErrAbortHandler)
			case CutStream:
				panic(http.ErrAbortHandler)
			case EndStream:
				return
			case StreamError:
				o.event(map[string]any{"error": map[string]any{
					"message": "The server had an error while processing your request.", "type": "server_error", "code": nil,
				}})
				return
			}
		}
		if i == len(pieces) {
			break
		}
		if o.fault.Kind == Slow && !o.wait(o.fault.Delay) {
			panic(http.ErrAbortHandler)
		}
		chunk(map[string]any{"content": pieces[i]}, nil)
	}
	chunk(map[string]any{}, finish)
	if req.Usage {
		o.event(map[string]any{
			"id": "chatcmpl-test", "object": "chat.completion.chunk", "model": req.Model,
			"choices": []any{}, "usage": usage,
		})
	}
	_, _ = fmt.Fprint(o.w, "data: [DONE]\n\n")
}

// event sends one event, at once unless the server answers whole. A client that has gone is noticed by whoever waits on o.ctx.
func (o *reply) event(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps of plain values come here
	}
	_, _ = fmt.Fprintf(o.w, "data: %s\n\n", b)
	if !o.whole {
		_ = http.NewResponseController(o.w).Flush()
	}
}

// split cuts a text into the pieces it is streamed in: words with the space before them.
func split(text string) []string {
	var pieces []string
	start := 0
	for i := range text {
		if i > start && text[i] == ' ' {
			pieces = append(pieces, text[start:i])
			start = i
		}
	}
	if start < len(text) {
		pieces = append(pieces, text[start:])
	}
	return pieces
}

func (s *Server) models(o *reply, _ Request) {
	names := s.Models
	if len(names) == 0 {
		names = []string{"test-model"}
	}
	list := make([]any, len(names))
	for i, n := range names {
		list[i] = map[string]any{"id": n, "object": "model", "owned_by": "llmtest"}
	}
	o.json(http.StatusOK, map[string]any{"object": "list", "data": list})
}
