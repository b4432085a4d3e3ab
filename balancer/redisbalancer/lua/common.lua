-- Begins every script. ARGV[1] is the prefix of all keys, ARGV[2] the epoch that the
-- caller believes in, ARGV[3] how long a pin idles (ms). All keys are in one slot.
local P, EPOCH, IDLE = ARGV[1], ARGV[2], tonumber(ARGV[3])
local LIFE = 86400000 -- of what is shared, after the last proxy went (ms)
local call = redis.call

local function K(name) return P .. 'srs-proxy-' .. name end
-- Lua writes 1e15 as 1e+15.
local function int(n) return string.format('%.0f', n) end

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- event tells all proxies of a change. Numbers have no gaps, so that who missed one knows.
local function event(kind, name, value)
  local n = int(call('INCR', K'seq'))
  call('XADD', K'events', 'MAXLEN', '~', 10000, n .. '-1', 'k', kind, 'n', name, 'v', value)
end

local function seq() return call('GET', K'seq') or '0' end

-- origin is one that lives. The existing proxy refreshes only the server's own key.
local function origin(id)
  local v = call('HGET', K'origins', id)
  if not v then return nil end
  local o = {id = id, value = v}
  o.inc, o.state, o.key, o.service = string.match(v, '^(%d+)\n(%d)\n([^\n]*)\n([^\n]*)\n')
  if tonumber(call('ZSCORE', K'expiry', id) or 0) <= now and call('PTTL', o.key) == -2 then return nil end
  return o
end

-- list changes the existing proxy's list of servers, which is JSON in one key.
local function list(add, remove)
  local text = call('GET', K'all-servers') or '[]'
  if add and string.find(text, cjson.encode(add), 1, true) and not remove then return end
  local ok, keys = pcall(cjson.decode, text)
  if not ok or type(keys) ~= 'table' then keys = {} end
  local out = {}
  for _, k in ipairs(keys) do
    if k ~= add and k ~= remove then out[#out + 1] = k end
  end
  if add then out[#out + 1] = add end
  call('SET', K'all-servers', #out > 0 and cjson.encode(out) or '[]', 'PX', LIFE)
end

local function forget(id)
  local v = call('HGET', K'origins', id)
  if not v then return end
  local key = string.match(v, '^%d+\n%d\n([^\n]*)\n')
  call('HDEL', K'origins', id)
  call('ZREM', K'expiry', id)
  call('HDEL', K'keys', key)
  call('UNLINK', K('on:' .. id), key)
  list(nil, key)
  event('o', id, '')
end

-- A pin is a hash: pin, id and inc (the origin, and which registration of it), key (the
-- server's), published, refusals, and what each proxy holds: h:PROXY = publishers players expiry.
local function count(p)
  p.pubs, p.plays, p.last = 0, 0, 0
  for _, h in pairs(p.holds) do
    p.pubs, p.plays = p.pubs + h[1], p.plays + h[2]
    if h[3] > p.last then p.last = h[3] end
  end
end

local function drop(p)
  call('UNLINK', K('pin:' .. p.stream))
  call('SREM', K('on:' .. p.id), p.stream)
  call('ZREM', K'held', p.stream)
  call('ZREM', K'idle', p.stream)
  if call('HDEL', K'pins', p.stream) == 1 then event('p', p.stream, '') end
  -- The existing proxy's picks never expire; they are its own, and stay.
  local url = K('url:' .. p.stream)
  if call('PTTL', url) ~= -1 then call('DEL', url) end
end

local function pinof(stream)
  local h = call('HGETALL', K('pin:' .. stream))
  if #h == 0 then return nil end
  local p = {stream = stream, holds = {}}
  for i = 1, #h, 2 do
    local f, v = h[i], h[i + 1]
    if string.sub(f, 1, 2) == 'h:' then
      local pubs, plays, expiry = string.match(v, '^(%d+) (%d+) (%d+)$')
      if tonumber(expiry) > now then
        p.holds[f] = {tonumber(pubs), tonumber(plays), tonumber(expiry)}
      else
        call('HDEL', K('pin:' .. stream), f)
      end
    else
      p[f] = v
    end
  end
  count(p)
  p.origin = origin(p.id)
  if not p.origin or p.origin.inc ~= p.inc then
    drop(p)
    return nil
  end
  return p
end

local function create(stream, o)
  local p = {stream = stream, pin = int(call('INCR', K'last')), id = o.id, inc = o.inc, key = o.key,
    published = '0', refusals = '0', holds = {}, origin = o}
  call('HSET', K('pin:' .. stream), 'pin', p.pin, 'id', p.id, 'inc', p.inc, 'key', p.key,
    'published', '0', 'refusals', '0')
  call('SADD', K('on:' .. o.id), stream)
  call('SET', K('url:' .. stream), o.key, 'PX', IDLE)
  count(p)
  return p
end

local function publish(p)
  if p.published == '1' then return end
  p.published = '1'
  call('HSET', K('pin:' .. p.stream), 'published', '1')
  local v = p.pin .. '\n' .. p.inc .. '\n' .. p.id
  call('HSET', K'pins', p.stream, v)
  event('p', p.stream, v)
end

local function hold(p, proxy, pubs, plays, ttl)
  local f = 'h:' .. proxy
  if pubs + plays > 0 then
    p.holds[f] = {pubs, plays, now + ttl}
    call('HSET', K('pin:' .. p.stream), f, int(pubs) .. ' ' .. int(plays) .. ' ' .. int(now + ttl))
  else
    p.holds[f] = nil
    call('HDEL', K('pin:' .. p.stream), f)
  end
  if pubs > 0 then publish(p) end
end

-- keep gives the pin the time that it has, or forgets it.
local function keep(p)
  count(p)
  local ttl = IDLE
  if p.pubs + p.plays > 0 then
    ttl = p.last - now + IDLE
    call('ZADD', K'held', int(p.last), p.stream)
    call('ZREM', K'idle', p.stream)
  elseif p.published == '1' then
    call('ZREM', K'held', p.stream)
    if not call('ZSCORE', K'idle', p.stream) then call('ZADD', K'idle', int(now + IDLE), p.stream) end
  else
    return drop(p)
  end
  call('PEXPIRE', K('pin:' .. p.stream), LIFE) -- the sweep ends it, which counts
  call('PEXPIRE', K('on:' .. p.id), LIFE)
  local url = K('url:' .. p.stream)
  if call('PTTL', url) ~= -1 or (p.pubs > 0 and call('GET', url) ~= p.key) then
    call('SET', url, p.key, 'PX', int(ttl))
  end
end

-- room makes room for one more pin, if need be by the longest idle one.
local function room(most)
  while call('ZCARD', K'held') + call('ZCARD', K'idle') >= most do
    local longest = call('ZPOPMIN', K'idle')
    if #longest == 0 then return false end
    local p = pinof(longest[1])
    if p then drop(p) end
  end
  return true
end

local function set(names)
  local s = {}
  for _, n in ipairs(names) do s[n] = true end
  return s
end

-- least is the least loaded of the candidates, [id, load without streams] each.
local function least(candidates, without)
  local best, score
  for _, c in ipairs(candidates) do
    if not without[c[1]] then
      local o = origin(c[1])
      if o and o.state == '0' then
        local n = c[2] + call('SCARD', K('on:' .. o.id))
        if not best or n < score then best, score = o, n end
      end
    end
  end
  return best
end
