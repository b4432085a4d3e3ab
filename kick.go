package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/supervisor"
)

// kickRequest names a stream (live/a, or vhost/live/a) or the ID of one client.
type kickRequest struct {
	Target string `json:"target"`
	// All ends a stream's players as well as its publisher.
	All bool `json:"all,omitempty"`
}

// kickReport says who was ended.
type kickReport struct {
	Kicked []kickedClient `json:"kicked"`
	// Errors say what could not be done, or not be looked at.
	Errors []string `json:"errors,omitempty"`
}

type kickedClient struct {
	ID      string `json:"id"`
	Origin  string `json:"origin"`
	Stream  string `json:"stream"`
	Client  string `json:"client"` // IP address
	Type    string `json:"type"`
	Publish bool   `json:"publish"`
}

// kick ends clients at the origins that have them.
func (f fleet) kick(ctx context.Context, req kickRequest) (kickReport, error) {
	if strings.Contains(req.Target, "/") {
		return f.kickStream(ctx, req)
	}
	if req.All {
		return kickReport{}, fmt.Errorf("%q is no stream, and --all is about those; write a stream as live/NAME", printable(req.Target))
	}
	return f.kickClient(ctx, req.Target)
}

// kickClient looks everywhere for an ID: origins make them up, at random.
func (f fleet) kickClient(ctx context.Context, id string) (kickReport, error) {
	var report kickReport
	errs := f.ask(ctx, apiTimeout, func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (func(), error) {
		c, err := api.one(ctx, o, id)
		if err == nil {
			err = api.end(ctx, o, id)
		}
		if errors.Is(err, errNoClient) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return func() { report.Kicked = append(report.Kicked, f.kicked(o, c)) }, nil
	})
	report.add(errs)
	if len(report.Kicked) > 0 {
		return report, nil
	}
	if streams := f.streams(ctx); len(streams.Streams) > 0 {
		for _, s := range streams.Streams {
			if s.Name == id {
				return report, report.failed("there is no client %s; did you mean the stream %s?", printable(id), s.title())
			}
		}
	}
	return report, report.failed("there is no client %s; see srs-proxy streams -o wide for those that publish", printable(id))
}

// kicked describes a client that was ended.
func (f fleet) kicked(o supervisor.OriginStatus, c apiClient) kickedClient {
	s := streamInfo{Vhost: balancer.DefaultVhost, Origin: o.ID}
	vhost, path, _ := strings.Cut(c.URL, "/")
	if vhost != "" {
		s.Vhost = vhost
	}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		s.App, s.Name = path[:i], path[i+1:]
	}
	if c.Publish {
		s.Publisher = &publisherInfo{Client: c.IP}
		f.nameClient(&s)
		c.IP = s.Publisher.Client
	}
	return kickedClient{ID: c.ID, Origin: o.ID, Stream: s.title(), Client: c.IP, Type: c.Type, Publish: c.Publish}
}

// kickStream ends a stream's publisher, and its players when asked to. A stream has
// one origin, but an old process that drains may still have players of it.
func (f fleet) kickStream(ctx context.Context, req kickRequest) (kickReport, error) {
	all := f.streams(ctx)
	title := streamTitle(req.Target)
	var report kickReport
	report.Errors = all.Errors
	matching := slices.DeleteFunc(slices.Clone(all.Streams), func(s streamInfo) bool { return s.title() != title })
	if len(matching) == 0 {
		return report, report.failed("there is no stream %s%s", printable(title), suggestStream(title, all.Streams))
	}
	players := 0
	errs := f.ask(ctx, apiKickTimeout, func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (func(), error) {
		i := slices.IndexFunc(matching, func(s streamInfo) bool { return s.Origin == o.ID })
		if i < 0 {
			return nil, nil
		}
		s := matching[i]
		ended, err := f.endStream(ctx, api, o, s, req.All)
		return func() {
			players += s.Players
			report.Kicked = append(report.Kicked, ended...)
		}, err
	})
	report.add(errs)
	if len(report.Kicked) > 0 {
		return report, nil
	}
	if !req.All && players > 0 {
		return report, report.failed("nobody publishes %s (%s wait; --all ends them)", title, counted(players, "player"))
	}
	return report, report.failed("nobody is left to end of %s", title)
}

// endStream ends the publisher first, so that no player is sent on by it.
func (f fleet) endStream(ctx context.Context, api *originAPI, o supervisor.OriginStatus, s streamInfo, all bool) ([]kickedClient, error) {
	var ended []kickedClient
	var errs []error
	if p := s.Publisher; p != nil {
		switch err := api.end(ctx, o, p.ID); {
		case err == nil:
			ended = append(ended, kickedClient{ID: p.ID, Origin: o.ID, Stream: s.title(), Client: p.Client, Type: p.Type, Publish: true})
		case !errors.Is(err, errNoClient):
			errs = append(errs, err)
		}
	}
	if !all {
		return ended, errors.Join(errs...)
	}
	clients, err := api.clients(ctx, o)
	errs = append(errs, err)
	for _, c := range clients {
		if c.Stream != s.id || c.Publish {
			continue
		}
		switch err := api.end(ctx, o, c.ID); {
		case err == nil:
			ended = append(ended, f.kicked(o, c))
		case !errors.Is(err, errNoClient):
			errs = append(errs, err)
		}
	}
	return ended, errors.Join(errs...)
}

func (r *kickReport) add(errs []error) {
	for _, err := range errs {
		r.Errors = append(r.Errors, err.Error())
	}
	slices.Sort(r.Errors)
	r.Errors = slices.Compact(r.Errors)
}

// failed is an error with what else went wrong: who is missing may be there.
func (r *kickReport) failed(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(r.Errors) > 0 {
		text += "; not all origins could be asked: " + strings.Join(r.Errors, "; ")
	}
	return errors.New(text)
}

// streamTitle reads how people write a stream: as streams shows it, with a slash
// before it, with the default vhost, or as an RTMP URL of this server.
func streamTitle(target string) string {
	target, _, _ = strings.Cut(target, "?")
	if _, rest, ok := strings.Cut(target, "://"); ok {
		_, target, _ = strings.Cut(rest, "/")
	}
	target = strings.Trim(target, "/")
	return strings.TrimPrefix(target, balancer.DefaultVhost+"/")
}

// suggestStream names the stream that was probably meant, or how to see them.
func suggestStream(title string, all []streamInfo) string {
	var titles []string
	for _, s := range all {
		if strings.HasSuffix(s.title(), "/"+title) {
			return "; did you mean " + s.title() + "?"
		}
		titles = append(titles, s.title())
	}
	if near := nearest(title, titles); near != "" {
		return "; did you mean " + near + "?"
	}
	if len(all) == 0 {
		return ", and no other one"
	}
	return "; see srs-proxy streams"
}
