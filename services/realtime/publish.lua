-- Appends one publication to a channel's history, if its fence and its position still hold.
-- KEYS: the history (a stream), its meta (a hash of epoch, offset, fence).
-- ARGV: fence, the epoch and offset to continue, epoch, offset, frame, snapshot, at and awarded_at
--       (Unix ms), publications and bytes to keep at most, and how long the channel is kept after
--       its last publication (ms).
-- Returns 'published', 'fenced' (a later holder of the lease has published) or 'moved'.
local epoch, offset, fence = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'fence'))
if tonumber(fence or '0') > tonumber(ARGV[1]) then
  return 'fenced'
end
if (epoch or '') ~= ARGV[2] or (offset or '0') ~= ARGV[3] then
  return 'moved'
end
-- A new epoch counts from 1 again, and no offset of the old one can continue into it.
if ARGV[4] ~= ARGV[2] then
  redis.call('DEL', KEYS[1])
end
-- Most of a publication is the window after it, and windows of one board are about alike.
local most = math.floor(tonumber(ARGV[11]) / (#ARGV[6] + #ARGV[7] + 64))
most = math.max(1, math.min(tonumber(ARGV[10]), most))
redis.call('XADD', KEYS[1], 'MAXLEN', '=', most, ARGV[5] .. '-0',
  'epoch', ARGV[4], 'frame', ARGV[6], 'snapshot', ARGV[7], 'at', ARGV[8],
  'awarded_at', ARGV[9])
redis.call('HSET', KEYS[2], 'epoch', ARGV[4], 'offset', ARGV[5], 'fence', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[12])
redis.call('PEXPIRE', KEYS[2], ARGV[12])
return 'published'
