-- A store that was emptied, or was away for longer than leases last, has another epoch:
-- who does not know of it writes back what it holds first.
local epoch, settled = string.match(call('GET', K'epoch') or '', '^(%S+) (%d+)$')
if not epoch or epoch ~= EPOCH then return {'lost'} end
settled = tonumber(settled)
