-- route(key of the route, its kind, what it is kept by): forgets it, and tells all.
call('UNLINK', K(ARGV[4]))
event('r', ARGV[5], ARGV[6])
return {'ok', seq()}
