-- pick(stream, role, proxy, pin that the proxy holds, publishers and players it will hold
-- of it, time of a hold, excluded, avoided, candidates, most pins)
local stream, role, proxy, mine = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local pubs, plays, ttl = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local excluded, avoided = set(cjson.decode(ARGV[11])), set(cjson.decode(ARGV[12]))
local candidates, most = cjson.decode(ARGV[13]), tonumber(ARGV[14])

local p = pinof(stream)
local url = call('GET', K('url:' .. stream))
if url and not (p and (p.key == url or p.pubs > 0)) then
  -- The existing proxy has picked: its publisher may be there.
  local id = call('HGET', K'keys', url)
  local o = id and origin(id)
  if o and not excluded[id] then
    local persistent = call('PTTL', K('url:' .. stream)) == -1
    if p then drop(p) end
    if not room(most) then return {'full'} end
    p = create(stream, o)
    publish(p)
    if persistent then call('PERSIST', K('url:' .. stream)) end
  elseif not id and call('EXISTS', url) == 1 then
    return {'unknown', url}
  end
end

local function lease()
  if p.pin ~= mine then pubs, plays = role == 'publish' and 1 or 0, role == 'publish' and 0 or 1 end
  hold(p, proxy, pubs, plays, ttl)
  keep(p)
  return {'ok', p.pin, p.id, p.origin.value, p.published, seq()}
end

if p and p.pubs > 0 then
  if excluded[p.id] then return {'owner', p.id} end
  return lease()
end
if p and p.origin.state == '0' and not excluded[p.id] and not avoided[p.id] then return lease() end
local o = least(candidates, excluded)
if not o then return {'none'} end
-- Until all proxies have written back what they hold, nobody knows who owns what.
if now < settled then return {'settling', int(settled - now)} end
if p then drop(p) end
if not room(most) then return {'full'} end
p = create(stream, o)
return lease()
