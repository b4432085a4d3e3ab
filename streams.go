package main

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/supervisor"
)

// streamsReport is all streams of all origins.
type streamsReport struct {
	Time    time.Time    `json:"time"`
	Streams []streamInfo `json:"streams"`
	// Errors say which origins are missing, and why.
	Errors []string `json:"errors,omitempty"`
}

// streamInfo is a stream at one origin.
type streamInfo struct {
	Vhost  string `json:"vhost"`
	App    string `json:"app"`
	Name   string `json:"name"`
	Origin string `json:"origin"`
	// Video and Audio are codecs, as the origin writes them: H264, HEVC, AAC...
	Video  string `json:"video,omitempty"`
	Audio  string `json:"audio,omitempty"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	// Publisher is nil for a stream that has only players, who wait.
	Publisher *publisherInfo `json:"publisher,omitempty"`
	Players   int            `json:"players"`
	// InBps and OutBps are bits per second: SRS's averages over 30 s, or until it has
	// any the average since the publish.
	InBps  float64 `json:"in_bps"`
	OutBps float64 `json:"out_bps"`

	id string // the origin's
}

// publisherInfo is who publishes a stream.
type publisherInfo struct {
	// ID is what kick takes.
	ID string `json:"id"`
	// Client is the IP address, the real one where the client came through this proxy.
	Client string  `json:"client"`
	Type   string  `json:"type,omitempty"`
	Up     float64 `json:"up_seconds"`
}

// title is the stream as people write it: without the vhost where that is the default.
func (s streamInfo) title() string {
	if s.Vhost == balancer.DefaultVhost {
		return s.App + "/" + s.Name
	}
	return s.Vhost + "/" + s.App + "/" + s.Name
}

func (s streamInfo) key() balancer.Stream {
	return balancer.Stream{Vhost: s.Vhost, App: s.App, Name: s.Name}
}

// fleet is the origins that the commands about streams ask.
type fleet struct {
	origins func(context.Context) []supervisor.OriginStatus
	where   whereAPI
	// publisher is who publishes a stream through this proxy, and at which origin.
	publisher func(balancer.Stream) (client netip.Addr, originID string, ok bool)
}

func (in *instance) fleet() fleet {
	return fleet{
		origins: func(context.Context) []supervisor.OriginStatus { return in.sup.Origins() }, where: loopbackAPI, publisher: in.proxy.Publisher,
	}
}

// ask asks all origins, see askAll.
func (f fleet) ask(ctx context.Context, within time.Duration, ask func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (func(), error)) []error {
	return askAll(ctx, within, f.origins(ctx), f.where, ask)
}

// streams asks all origins.
func (f fleet) streams(ctx context.Context) streamsReport {
	report := streamsReport{Time: time.Now(), Streams: []streamInfo{}}
	errs := f.ask(ctx, apiTimeout, func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (func(), error) {
		found, err := streamsOf(ctx, api, o)
		return func() { report.Streams = append(report.Streams, found...) }, err
	})
	for _, err := range errs {
		report.Errors = append(report.Errors, err.Error())
	}
	slices.Sort(report.Errors)
	for i := range report.Streams {
		f.nameClient(&report.Streams[i])
	}
	slices.SortFunc(report.Streams, func(a, b streamInfo) int {
		return cmp.Or(cmp.Compare(a.title(), b.title()), cmp.Compare(a.Origin, b.Origin))
	})
	return report
}

// nameClient puts the real address of a publisher in the place of the proxy's.
func (f fleet) nameClient(s *streamInfo) {
	if s.Publisher == nil {
		return
	}
	if ip, err := netip.ParseAddr(s.Publisher.Client); err != nil || !ip.IsLoopback() {
		return // an origin that was told, by X-Forwarded-For, or a client that came straight to it
	}
	if client, origin, ok := f.publisher(s.key()); ok && origin == s.Origin {
		s.Publisher.Client = client.String()
	}
}

// streamsOf is what one origin has. When its publishers cannot be had, the streams
// come with the error.
func streamsOf(ctx context.Context, api *originAPI, o supervisor.OriginStatus) ([]streamInfo, error) {
	all, err := api.streams(ctx, o)
	if err != nil {
		return nil, err
	}
	publishers, err := publishersOf(ctx, api, o, all)
	found := make([]streamInfo, 0, len(all))
	for _, s := range all {
		found = append(found, describeStream(o.ID, s, publishers[s.Publish.CID]))
	}
	return found, err
}

func describeStream(origin string, s apiStream, publisher apiClient) streamInfo {
	key := s.key()
	info := streamInfo{
		Vhost: key.Vhost, App: key.App, Name: key.Name, Origin: origin, Players: s.Clients,
		InBps: 1000 * s.Kbps.Recv, OutBps: 1000 * s.Kbps.Send, id: s.ID,
	}
	if s.Video != nil {
		info.Video, info.Width, info.Height = s.Video.Codec, s.Video.Width, s.Video.Height
	}
	if s.Audio != nil {
		info.Audio = s.Audio.Codec
	}
	if !s.Publish.Active {
		return info
	}
	info.Players = max(0, s.Clients-1)
	info.Publisher = &publisherInfo{ID: s.Publish.CID, Client: publisher.IP, Type: publisher.Type, Up: publisher.Alive}
	if up := publisher.Alive; up > 0 && info.InBps == 0 && info.OutBps == 0 {
		info.InBps, info.OutBps = 8*float64(s.Recv)/up, 8*float64(s.Send)/up
	}
	return info
}

// fewPublishers are asked for one by one: a list of all clients costs a server of
// thousands of players more than that.
const fewPublishers = 32

// publishersOf are the clients that publish, by ID.
func publishersOf(ctx context.Context, api *originAPI, o supervisor.OriginStatus, all []apiStream) (map[string]apiClient, error) {
	var ids []string
	clients := 0
	for _, s := range all {
		clients += s.Clients
		if s.Publish.Active && s.Publish.CID != "" {
			ids = append(ids, s.Publish.CID)
		}
	}
	found := make(map[string]apiClient, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	if len(ids) > fewPublishers || len(ids) > clients/2 {
		list, err := api.clients(ctx, o)
		for _, c := range list {
			found[c.ID] = c
		}
		return found, err
	}
	for _, id := range ids {
		c, err := api.one(ctx, o, id)
		if err != nil && ctx.Err() != nil {
			return found, err
		}
		found[id] = c // the zero one has left just now
	}
	return found, nil
}
