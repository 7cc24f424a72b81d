-- Begins and ends calls that came with an Idempotency-Key, so that one at a time runs.
--
-- KEYS[1]  the key's mark
-- ARGV[1]  what the callers' clock is ahead of ours, ms
-- ARGV[2]  "begin" or "end"
-- begin: ARGV[3] the body's hash (32 bytes), [4] who begins (16 bytes), [5] how long the call
--        may run, ms, [6] how long the mark stands, ms
--        Returns {"begun"}, {"reused"}: it came with another body, {"running"},
--        or {"answered", the sealed answer}.
-- end:   ARGV[3] who began, [4] the sealed answer; empty: none is kept
--        Does nothing where another one has begun since.
--
-- The mark, one string: state ("R" running, "F" finished, "A" answered), the body's hash, when
-- the mark ends and when the run does (8 bytes each), who runs it, the answer. A gateway that
-- died while it ran leaves a run that ends by itself.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local FORM = '>c1c32ddc16'
local HEAD_BYTES = 65

local mark = redis.call('GET', KEYS[1])
local state, hash, ends, run_ends, owner
if mark then
  state, hash, ends, run_ends, owner = struct.unpack(FORM, mark)
  if ends <= now then mark = false end
end

if ARGV[2] == 'end' then
  if mark and state == 'R' and owner == ARGV[3] then
    local after = ARGV[4] == '' and 'F' or 'A'
    redis.call('SET', KEYS[1], struct.pack(FORM, after, hash, ends, 0, owner) .. ARGV[4], 'KEEPTTL')
  end
  return {}
end

if mark then
  if hash ~= ARGV[3] then return { 'reused' } end
  if state == 'A' then return { 'answered', string.sub(mark, HEAD_BYTES + 1) } end
  if state == 'R' and run_ends > now then return { 'running' } end
else
  ends = now + tonumber(ARGV[6])
end
local begun = struct.pack(FORM, 'R', ARGV[3], ends, now + tonumber(ARGV[5]), ARGV[4])
redis.call('SET', KEYS[1], begun, 'PX', math.max(1, math.ceil(ends - now)))
return { 'begun' }
