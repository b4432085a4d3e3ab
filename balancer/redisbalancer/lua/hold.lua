-- hold(stream, proxy, pin, publishers, players, time of a hold, origin's id and service,
-- published, outcome of a publish, refusals allowed, and for how long one is too many
-- after a publish that was served, candidates, most pins): what a proxy
-- holds of a stream, now. It renews, releases, and writes back what the store lost.
local stream, proxy, mine = ARGV[4], ARGV[5], ARGV[6]
local pubs, plays, ttl = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local id, service, published, outcome = ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local refusals, returning = tonumber(ARGV[14]), tonumber(ARGV[15])
local candidates, most = cjson.decode(ARGV[16]), tonumber(ARGV[17])

local function moved(p) return {'moved', p.pin, p.id, p.origin.value, p.published, seq()} end

local p = pinof(stream)
if p and p.id ~= id then
  -- Its publisher can't be moved, waiting players can. What the proxy itself held of it is over:
  -- the answer that gave it the pin came when it had stopped to wait.
  local own = p.holds['h:' .. proxy]
  if pubs == 0 or p.pubs > (own and own[1] or 0) then return moved(p) end
  drop(p)
  p = nil
end
if not p then
  if pubs + plays == 0 then return {'gone'} end
  local o = origin(id)
  if not o or o.service ~= service then return {'gone'} end
  if not room(most) then return {'full'} end
  p = create(stream, o)
  if published == '1' then publish(p) end
elseif pubs + plays == 0 and p.pin ~= mine then
  return {'gone'}
end
hold(p, proxy, pubs, plays, ttl)
count(p)
if outcome == 'served' then
  call('HSET', K('pin:' .. stream), 'refusals', '0', 'served', int(now), 'refusedby', '[]')
elseif outcome == 'refused' and p.pubs == 0 then
  if call('HINCRBY', K('pin:' .. stream), 'refusals', 1) >= refusals or now - (tonumber(p.served) or 0) <= returning then
    -- Not to one that has refused it since it was served, unless all of them have.
    local refusedby, not_to = cjson.decode(p.refusedby or '[]'), {[p.id] = true}
    for _, at in ipairs(refusedby) do not_to[at] = true end
    local o = least(candidates, not_to)
    if not o then
      refusedby = {}
      o = least(candidates, {[p.id] = true})
    end
    if o then
      table.insert(refusedby, p.id)
      local served = p.served or 0
      drop(p)
      p = create(stream, o)
      call('HSET', K('pin:' .. stream), 'served', served, 'refusedby', cjson.encode(refusedby))
      publish(p)
      keep(p)
      return moved(p)
    end
  end
end
keep(p)
return {'ok', p.pin, p.id, p.origin.value, p.published, seq()}
