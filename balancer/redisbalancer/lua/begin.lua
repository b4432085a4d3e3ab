-- begin(epoch offered, its life, time to settle): the epoch that is.
local offered, life, settle = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local cur, settled = string.match(call('GET', K'epoch') or '', '^(%S+) (%d+)$')
if not cur then
  cur, settled = offered, now + settle
  call('SET', K'epoch', cur .. ' ' .. int(settled), 'PX', life)
end
-- Numbers go on from the clock: those of before may be known to somebody.
local start = int(clock[1] * 1000000 + clock[2])
call('SET', K'seq', start, 'NX')
call('SET', K'last', start, 'NX')
return {'ok', cur}
